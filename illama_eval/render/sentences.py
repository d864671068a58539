"""What a study found about a model, in one sentence with its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from illama_eval.render.attention_maps import maps_of, threshold_of
from illama_eval.render.format.escape import LONGEST_NOTE, sanitize
from illama_eval.render.format.glossary import metric_label
from illama_eval.render.format.numbers import show_row
from illama_eval.render.format.verdicts import Said, say_verdict
from illama_eval.render.select import headline, rows_at
from illama_eval.results import Row, Run, Verdict

_NUMBERS = 2
"""Numbers of a study that has no sentence of its own."""


@dataclass(frozen=True, kw_only=True)
class StudyOfModel:
    """The results of one study for one model."""

    run: Run
    subject: str
    study: str

    def row(self, metric: str, study: str = "") -> Row | None:
        """Return the metric's row for the whole source, if it has a value."""
        found = headline(self.run, study or self.study, metric, self.subject)
        return None if found is None or found.value is None else found

    def some(self, *metrics: str) -> list[Row]:
        """Return the rows of these metrics for the whole source, as far as they have values."""
        return [row for row in map(self.row, metrics) if row is not None]

    def by(self, metric: str, key: str) -> list[Row]:
        """Return the metric's rows that have this one key, as far as they have values."""
        found = rows_at(self.run, self.study, metric, self.subject, (key,))
        return [row for row in found if row.value is not None]

    @property
    def verdicts(self) -> Sequence[Verdict]:
        """The study's verdicts on the model as a whole."""
        wanted = (self.subject, self.study)
        return [v for v in self.run.verdicts if (v.subject, v.study) == wanted and not v.at]

    def said(self, name: str) -> Said | None:
        """Return what the verdict of a name means, if there is one."""
        return next((say_verdict(each) for each in self.verdicts if each.name == name), None)


def say_study(run: Run, subject: str, study: str) -> Said | None:
    """Return what a study found about a subject, or None; the sentence has no full stop."""
    found = StudyOfModel(run=run, subject=subject, study=study)
    said = _SENTENCES.get(study, _say_anything)(found)
    return said if said is not None and said.text else None


def say_verdicts(run: Run, subject: str, study: str) -> Said | None:
    """Return what a study's verdicts on a subject mean, without numbers; None where it has none."""
    found = StudyOfModel(run=run, subject=subject, study=study)
    if study == "collapse":
        return _say_collapse(found)
    said = [say_verdict(each) for each in found.verdicts if each.name != "temperature"]
    scaling = found.said("temperature")
    return _joined([*said, *([scaling] if scaling is not None and scaling.look else [])])


def as_sentence(text: str) -> str:
    """Return the text with a large letter in front and a full stop.

    A name such as mIoU keeps its small letter.
    """
    return f"{text if text[1:2].isupper() else text[:1].upper() + text[1:]}."


def _joined(said: Sequence[Said]) -> Said | None:
    """Return several as one, which deserves a look if one of them does."""
    if not said:
        return None
    return Said("; ".join(each.text for each in said), any(each.look for each in said))


def _share(row: Row) -> str:
    """Return a share as percent, without its interval."""
    return f"{100 * (row.value or 0.0):.1f}"


def _rank(row: Row) -> str:
    """Return a rank with its interval, and without a unit."""
    return show_row(replace(row, unit="")).full


def _say_accuracy(found: StudyOfModel) -> Said | None:
    parts = [
        f"it is right on {show_row(row).full} of {row.images:,} images"
        for row in found.some("top1")
    ]
    parts += [f"within five guesses on {show_row(row).full}" for row in found.some("top5")]
    return _joined([*filter(None, [found.said("chance")]), Said(", ".join(parts))])


def _say_calibration(found: StudyOfModel) -> Said | None:
    verdict = found.said("calibration")
    parts = [verdict.text] if verdict else []
    sure, right = found.row("confidence"), found.row("top1", "accuracy")
    if sure is not None and right is not None:
        means = f"{_share(sure)} % sure and {_share(right)} % right on average"
        parts = [": ".join([*parts, means])]
    parts += [f"ECE {show_row(row).full}" for row in found.some("ece")]
    scaling = found.said("temperature")
    after = found.row("ece_scaled")
    if scaling is not None and "lowers" in scaling.text and after is not None:
        parts.append(f"{scaling.text} to {show_row(after).value} %")
    elif scaling is not None and scaling.look:
        parts.append(scaling.text)
    look = any(each.look for each in (verdict, scaling) if each is not None)
    return Said("; ".join(parts), look)


def _say_rank(found: StudyOfModel) -> Said | None:
    row = found.row("rank_of_mean_map")
    maps = [each for each in maps_of(found.run) if each.subject == found.subject]
    if row is None or not maps:
        return None
    share = 100 * threshold_of(found.run)
    text = (
        f"its attention maps need {_rank(row)} of {maps[0].tokens} singular values for "
        f"{share:.4g} % of their sum"
    )
    words = {"softmax": "without the mask", "masked": "under a causal mask"}
    controls = [
        f"{_rank(each)} {words[str(each.at['map'])]}"
        for each in found.by("rank_of_mean_map", "map")
        if each.at["map"] in words
    ]
    return Said(f"{text}; the same scores need {' and '.join(controls)}" if controls else text)


def _say_collapse(found: StudyOfModel) -> Said | None:
    """Return the kinds of collapse that are seen, or that none is."""
    said = [(each, say_verdict(each)) for each in found.verdicts]
    if not said:
        return None
    seen = [one.text for _, one in said if one.look]
    unsure = [each.name.replace("_", " ") for each, _ in said if each.verdict == "undecided"]
    parts = seen or ["no collapse is seen"]
    token = found.said("class_token_isolation")
    if token is not None and token.text not in parts and not unsure:
        parts.append(token.text)
    if unsure:
        parts.append(f"undecided: {', '.join(unsure)}")
    return Said("; ".join(parts), bool(seen))


def _say_causality(found: StudyOfModel) -> Said | None:
    verdict, change = found.said("causality"), found.row("kept_change")
    if verdict is None:
        return None
    if change is None or not change.value:
        return verdict
    most = show_row(replace(change, unit="fraction")).full
    return Said(f"{verdict.text} by up to {most}", verdict.look)


def _say_anytime(found: StudyOfModel) -> Said | None:
    rows = found.by("prefix_top1", "given")
    if not rows:
        return _say_anything(found)
    given = " / ".join(sanitize(str(row.at["given"]).removesuffix(" %")) for row in rows)
    right = " / ".join(map(_share, rows))
    return Said(f"given the first {given} % of the patches it is right on {right} % of the images")


def _say_lens(found: StudyOfModel) -> Said | None:
    rows = found.by("head_class", "layer")
    if not rows:
        return _say_anything(found)
    half, last = rows[(len(rows) - 1) // 2], rows[-1]
    return Said(
        f"read off after block {half.at['layer']} of {last.at['layer']} its head is right on "
        f"{show_row(half).full}, after the last on {show_row(last).full}"
    )


def _say_distance(found: StudyOfModel) -> Said | None:
    far, relative = found.row("attention_distance"), found.row("relative_distance")
    if far is None:
        return None
    text = f"attended patches are {far.value:.2f} patches away on average"
    if relative is not None:
        text += f", {relative.value:.2f} of what equal scores would give"
    first, even = found.row("rollout_first_half"), found.row("even_first_half")
    if first is not None and even is not None:
        text += (
            f"; {_share(first)} % of what reaches the head comes from the first half of the "
            f"patches, {_share(even)} % if all scores were equal"
        )
    return Said(text)


def _say_agreement(found: StudyOfModel) -> Said | None:
    row = found.row("flips")
    if row is None:
        return None
    return Said(f"it answers otherwise than the first model on {show_row(row).full} of the images")


def _say_shape_bias(found: StudyOfModel) -> Said | None:
    cue = found.said("cue")
    parts = [cue.text] if cue else []
    parts += [
        f"{metric_label(row.metric)} {show_row(row).full}"
        for row in found.some("shape_bias", "undecided", "error_consistency")
    ]
    return Said("; ".join(parts))


def _say_segmentation(found: StudyOfModel) -> Said | None:
    parts = [
        f"{show_row(row).full} {words}"
        for metric, words in _WINDOWS.items()
        for row in found.some(metric)
    ]
    return Said(f"its mean IoU over the classes is {', '.join(parts)}") if parts else None


def _say_sensitivity(found: StudyOfModel) -> Said | None:
    """Return which layer moves the answers most when it is quantized alone, and how far."""
    rows = [
        row
        for row in found.run.by_metric.get((found.subject, found.study, "kl"), ())
        if row.value is not None
    ]
    if not rows:
        return None
    most = max(rows, key=lambda row: row.value or 0.0)
    kind, layer, scheme = (sanitize(most.at.get(key, "?")) for key in ("kind", "layer", "scheme"))
    return Said(
        f"of all layers quantized alone, {kind} of layer {layer} moves the answers most, with "
        f"{scheme}: KL divergence {show_row(most).full}"
    )


_WINDOWS = {
    "miou_multiscale": "at several scales",
    "miou_slide": "by windows that slide over the image",
    "miou_whole": "in one window",
}
_TRANSFERRED = {
    "chosen_c": "linear probe with C =",
    "neighbours": "votes of neighbours, k =",
    "best_epoch": "all weights trained, best in epoch",
}


def _say_transfer(found: StudyOfModel) -> Said | None:
    """Return what was trained on how many images, and the accuracy that came of it."""
    parts = [f"{show_row(row).value} training images" for row in found.some("training_images")]
    for metric, words in _TRANSFERRED.items():
        parts += [
            f"{words} {show_row(row).value}, {sanitize(row.reason, LONGEST_NOTE)}"
            for row in found.some(metric)
        ]
    top1 = found.row("top1", "accuracy")
    if top1 is not None:
        parts.append(f"top-1 accuracy {show_row(top1).full} on {top1.images:,} test images")
    return Said("; ".join(parts))


def _say_anything(found: StudyOfModel) -> Said | None:
    """Return all verdicts, or the first numbers where there is none."""
    said = _joined(list(map(say_verdict, found.verdicts)))
    return said or Said(", ".join(_numbers(found)))


def _numbers(found: StudyOfModel) -> Iterator[str]:
    metrics = [
        metric
        for subject, study, metric in found.run.by_metric
        if (subject, study) == (found.subject, found.study)
    ]
    for row in found.some(*metrics)[:_NUMBERS]:
        yield f"{metric_label(row.metric)} {show_row(row).full}"


_SENTENCES: Mapping[str, Callable[[StudyOfModel], Said | None]] = {
    "accuracy": _say_accuracy,
    "calibration": _say_calibration,
    "rank": _say_rank,
    "collapse": _say_collapse,
    "causality": _say_causality,
    "anytime": _say_anytime,
    "lens": _say_lens,
    "distance": _say_distance,
    "agreement": _say_agreement,
    "shape_bias": _say_shape_bias,
    "segmentation": _say_segmentation,
    "sensitivity": _say_sensitivity,
    "transfer": _say_transfer,
}
