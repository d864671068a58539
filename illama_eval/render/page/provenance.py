"""The provenance of the numbers: models, images, program, and the commands that repeat them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from illama_eval.compare.subject_run import nested_items
from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import EXPLAINED
from illama_eval.render.format.numbers import MISSING, show_images
from illama_eval.render.models import ReportModel, ReportModels
from illama_eval.render.page.document import Cell, Column, Subject, Table
from illama_eval.render.select import studies_measured
from illama_eval.render.style.theme import role_of
from illama_eval.results import nested_get

_LONGEST = 200
_SHA = 8
_ELSEWHERE = frozenset(("name", "args", "assumptions", "overrides"))
"""Fields of a model's description that are shown in another place of the page."""


def identity_of(models: ReportModels, model: ReportModel) -> Subject:
    """Return the facts on a model in the identity strip at the top."""
    known = model.described
    config = known.get("config")
    facts = [f"sha256 {_short(known.get('file_sha256') or known.get('weights_sha256'))}"]
    if isinstance(config, Mapping):
        facts.append(
            "{depth} layers, {heads} heads, width {width}".format(
                **{key: config.get(key, "?") for key in ("depth", "heads", "width")}
            )
        )
        facts.append(f"mask {config.get('masking', '?')}, soft mask {known.get('soft_mask', '?')}")
    facts.append(str(known.get("dtype") or "dtype unknown"))
    if len(models.sources) > 1:
        facts.insert(0, f"measured on {model.images}")
    if known.get("released"):
        facts.append(f"published as {known['released']}")
    return Subject(
        name=model.label,
        symbol=model.symbol,
        look=role_of(model.look.colour) or "axis",
        facts=[sanitize(fact, _LONGEST) for fact in facts],
    )


def source_of(models: ReportModels) -> list[str]:
    """Return the images, the device and the program, one phrase each."""
    header = models.run.header
    source = nested_get(header, "source") or {}
    measured, *others = models.sources or ["nothing measured"]
    phrases = [
        f"{len(models.sources)} sets of images" if others else measured,
        *([] if others else [f"fingerprint {_short(source.get('fingerprint'))}"]),
        str(header.get("device") or "device unknown"),
        f"illama {nested_get(header, 'code', 'version') or '?'} ({_commit(header)})",
    ]
    return [sanitize(phrase, _LONGEST) for phrase in phrases]


def boxes_of(models: ReportModels) -> list[str]:
    """Return what limits the numbers, one sentence each."""
    return list(dict.fromkeys([*_not_comparable(models), *_limits(models)]))


def remarks_of(models: ReportModels) -> list[str]:
    """Return what was assumed of models or changed, each remark once with whom it is about."""
    about: dict[tuple[str, str], list[ReportModel]] = {}
    for model in models:
        for remark in _remarks(model):
            about.setdefault(remark, []).append(model)
    return [
        f"{verb}: {text}"
        if len(members) == len(models)
        else f"{verb} for {models.say_names(members)}: {text}"
        for (verb, text), members in about.items()
    ]


def commands_of(models: ReportModels) -> list[str]:
    """Return the command lines that repeat the runs, of those that a command line made."""
    given = (model.known("command") for model in models if model.number == 0)
    lines = (shlex.join(map(sanitize, words)) for words in given if isinstance(words, list))
    return list(dict.fromkeys(filter(None, lines)))


def provenance_of(models: ReportModels) -> list[Table]:
    """Return a table of what the runs were made with, models as columns; differences are marked."""
    listed = [dict(_fields(model)) for model in models]
    keys = dict.fromkeys(key for each in listed for key in each)
    columns = [Column(label="field"), *(Column(label=models.column(model)) for model in models)]
    rows = []
    for key in keys:
        values = [each.get(key, MISSING) for each in listed]
        differs = "\N{NOT EQUAL TO} " if len(set(values)) > 1 else ""
        rows.append([Cell(text=differs + key), *(Cell(text=value) for value in values)])
    table = Table(
        key="provenance-table",
        caption="What the numbers were made with",
        columns=columns,
        rows=rows,
        total=len(rows),
        long=True,
    )
    return [table]


def not_run(models: ReportModels) -> list[tuple[str, str]]:
    """Return the studies that were not measured, each with what measures it."""
    here = studies_measured(models.run)
    return [
        (known.title, f"{known.command} CHECKPOINT --data SOURCE")
        for study, known in EXPLAINED.items()
        if known.command and study not in here
    ]


def _not_comparable(models: ReportModels) -> Iterator[str]:
    """Yield one sentence on why nothing is subtracted; the provenance has every difference."""
    if not models.apart:
        return
    reason, *others = models.apart
    more = "; every difference is marked in the provenance" if others else ""
    if len(models.sources) > 1:
        reason = f"the models were measured on {len(models.sources)} sets of images"
    yield f"Not comparable, so nothing is subtracted: {sanitize(reason, _LONGEST)}{more}."


def _limits(models: ReportModels) -> Iterator[str]:
    for model in models:
        lost = model.known("unreadable", "count")
        if lost:
            total = model.known("source", "images")
            yield f"{model.label}: {lost} of {total} images could not be read and are left out."
        yield from _about_images(model)
    for row in (each for rows in models.headline.values() for each in rows.values()):
        if row.metric == "nonfinite" and row.value:
            yield (
                f"{sanitize(row.subject, _LONGEST)}: logits were not finite on {row.value:.0f} of "
                f"{show_images(row.images)}, counted as wrong."
            )


def _about_images(model: ReportModel) -> Iterator[str]:
    """Yield which files were left out of the images, and notes on the images and their classes."""
    kinds = [each for each in model.known("source", "left_out") or () if isinstance(each, Mapping)]
    if kinds:
        words = ", ".join(f"{each.get('files')} {each.get('kind')}" for each in kinds)
        yield f"Files beside the images that are left out: {sanitize(words, _LONGEST)}."
    for note in model.known("source", "notes") or ():
        yield f"{sanitize(str(note), _LONGEST)}."


def _remarks(model: ReportModel) -> Iterator[tuple[str, str]]:
    """Yield (verb, what) of what was assumed of a model, or changed by options."""
    for kind, verb in (("assumptions", "assumed"), ("overrides", "changed")):
        for each in model.described.get(kind) or ():
            if isinstance(each, Mapping):
                yield verb, sanitize(each.get("text", ""), _LONGEST)


def _fields(model: ReportModel) -> Iterator[tuple[str, str]]:
    """Yield (dotted name, value as text) of what the header records of one model and its run."""
    for name, value in nested_items(_recorded(model)):
        if value is not None and value != {}:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield sanitize(name, _LONGEST), sanitize(text, _LONGEST)


def _recorded(model: ReportModel) -> dict[str, Any]:
    shown = {key: value for key, value in model.described.items() if key not in _ELSEWHERE}
    return {
        "model": shown,
        "trained with": model.described.get("args") or {},
        "source": {
            key: value
            for key, value in (model.known("source") or {}).items()
            if key not in {"classes", "left_out", "notes"}
        },
        "studies": model.known("identity", "studies"),
        "replicate scheme": model.known("identity", "replicate_scheme"),
        "code": model.known("code"),
        "versions": model.known("versions"),
        "device": model.known("device"),
        "unreadable images": model.known("unreadable", "count"),
    }


def _short(digest: object) -> str:
    return str(digest)[:_SHA] if digest else "unknown"


def _commit(header: Mapping[str, Any]) -> str:
    commit, dirty = (nested_get(header, "code", key) for key in ("commit", "dirty"))
    if not commit:
        return "no checkout"
    return _short(commit) + (", with uncommitted changes" if dirty else "")
