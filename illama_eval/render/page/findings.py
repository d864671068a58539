"""The findings of a study, one sentence with numbers for each model, and the report's summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from illama_eval.render.attention_maps import threshold_of
from illama_eval.render.format.changes import show_change
from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import metric_label
from illama_eval.render.format.numbers import show_row
from illama_eval.render.models import ReportModels
from illama_eval.render.page.headline import TWO, headline_keys, joined_names
from illama_eval.results import Row, Verdict

Rows: TypeAlias = Mapping[str, Row]

_LONGEST = 300


@dataclass(frozen=True, kw_only=True)
class StudyOfModel:
    """The results of one study for one model."""

    models: ReportModels
    name: str
    rows: Rows
    """Metric -> row for the whole source."""
    verdicts: Sequence[Verdict]

    def some(self, *metrics: str) -> list[Row]:
        """Return the rows of these metrics, as far as they are there."""
        return [self.rows[metric] for metric in metrics if metric in self.rows]


def findings_of(models: ReportModels, study: str) -> list[str]:
    """Return a sentence per model, its name in front where there are several."""
    say = _SENTENCES.get(study, _say_anything)
    sentences = []
    for model in models:
        sentence = say(_select(models, study, model.name))
        if sentence and len(models) > 1:
            sentences.append(f"{model.symbol} {model.label}: {sentence}.")
        elif sentence:
            sentences.append(f"{_begun(sentence)}.")
    return sentences


def _begun(sentence: str) -> str:
    """Return a sentence with a large letter in front, unless it begins with a name like mIoU."""
    return sentence if sentence[1:2].isupper() else f"{sentence[0].upper()}{sentence[1:]}"


def _select(models: ReportModels, study: str, name: str) -> StudyOfModel:
    rows = {
        metric: found[name]
        for (other, metric), found in models.headline.items()
        if other == study and name in found
    }
    verdicts = [each for each in models.run.verdicts if (each.study, each.subject) == (study, name)]
    return StudyOfModel(models=models, name=name, rows=rows, verdicts=verdicts)


def summary(models: ReportModels) -> str:
    """Return the most important numbers of the report in a sentence or two."""
    if len(models) == 1:
        parts = [part for part in _highlights(models) if part]
        sentence = "; ".join(parts)
        return f"{_begun(sentence)}." if sentence else ""
    if len(models) == TWO and not models.apart:
        return _summary_of_two(models)
    rows = models.headline.get(("accuracy", "top1"), {})
    best = models.best("accuracy", "top1")
    ahead = next((model for model in models if model.name == best), None)
    if ahead is None:
        return f"{joined_names(models)}, side by side."
    value = show_row(rows[ahead.name]).full
    return f"{ahead.symbol} {ahead.label} has the highest top-1 accuracy, {value}."


def _highlights(models: ReportModels) -> Iterator[str]:
    top1 = models.headline.get(("accuracy", "top1"), {})
    for row in top1.values():
        yield f"top-1 accuracy {show_row(row).full} on {row.images:,} images"
    for verdict in models.run.verdicts:
        if (verdict.study, verdict.name) == ("calibration", "calibration"):
            yield sanitize(verdict.verdict, _LONGEST)
        if (verdict.study, verdict.name) == ("collapse", "class_token_isolation"):
            yield f"the class token {sanitize(verdict.verdict, _LONGEST)}"
    if not top1:
        for study in dict.fromkeys(study for study, _ in models.headline):
            found = _select(models, study, next(iter(models)).name)
            yield _SENTENCES.get(study, _say_anything)(found)


def _summary_of_two(models: ReportModels) -> str:
    """Return how many headline numbers differ clearly, and how accuracy does."""
    first, second = models
    changes = [models.change(first.name, second.name, *key) for key in headline_keys(models)]
    known = [change for change in changes if change is not None]
    clear = sum(bool(change.finding) for change in known)
    sentence = f"{clear} of {len(known)} headline numbers differ clearly on the same images."
    accuracy = models.change(first.name, second.name, "accuracy", "top1")
    if accuracy is None:
        return sentence
    model, shown = second, show_change(accuracy)
    clearly = "" if accuracy.finding else ", which is not clear"
    return f"{sentence} Top-1 accuracy of {model.symbol} {model.label}: {shown.full}{clearly}."


def _say_accuracy(found: StudyOfModel) -> str:
    rows = found.some("top1", "top5")
    parts = [f"{metric_label(row.metric)} {show_row(row).full}" for row in rows]
    return f"{', '.join(parts)}, on {rows[0].images:,} images" if rows else ""


def _say_calibration(found: StudyOfModel) -> str:
    words = [
        sanitize(each.verdict, _LONGEST) for each in found.verdicts if each.name == "calibration"
    ]
    parts = [*words, *(f"ECE {show_row(row).full}" for row in found.some("ece"))]
    right = found.models.headline.get(("accuracy", "top1"), {}).get(found.name)
    for sure in found.some("confidence"):
        if right and sure.value is not None and right.value is not None:
            side = "under" if sure.value < right.value else "over"
            means = f"mean confidence {show_row(sure).value} %, accuracy {show_row(right).value} %"
            parts.append(f"{side}-confident on the whole: {means}")
    return "; ".join(parts)


def _say_rank(found: StudyOfModel) -> str:
    mine = [maps for maps in found.models.maps if maps.subject == found.name]
    known = [row for row in found.some("rank_of_mean_map") if row.value is not None]
    if not mine or not known:
        return ""
    share = 100 * threshold_of(found.models.run)
    return (
        f"the maps that the model uses need {show_row(known[0]).value} of {mine[0].tokens} "
        f"singular values for {share:.4g} % of their sum, on the mean over layers and heads"
    )


_TRANSFERRED = {
    "chosen_c": "linear probe with C =",
    "neighbours": "votes of neighbours, k =",
    "best_epoch": "all weights trained, best in epoch",
}


def _say_transfer(found: StudyOfModel) -> str:
    """Return what was trained on how many images, and the accuracy that came of it."""
    parts = [f"{show_row(row).value} training images" for row in found.some("training_images")]
    for metric, words in _TRANSFERRED.items():
        parts += [
            f"{words} {show_row(row).value}, {sanitize(row.reason, _LONGEST)}"
            for row in found.some(metric)
        ]
    top1 = found.models.headline.get(("accuracy", "top1"), {}).get(found.name)
    if top1 is not None:
        parts.append(f"top-1 accuracy {show_row(top1).full} on {top1.images:,} test images")
    return "; ".join(parts)


def _say_anything(found: StudyOfModel) -> str:
    """Return all verdicts, or the first numbers where there is none."""
    verdicts = [
        f"{sanitize(each.name.replace('_', ' '), _LONGEST)}: {sanitize(each.verdict, _LONGEST)}"
        for each in found.verdicts
    ]
    rows = list(found.rows.values())[:TWO]
    return "; ".join(verdicts) or ", ".join(
        f"{metric_label(row.metric)} {show_row(row).full}" for row in rows
    )


def _say_shape_bias(found: StudyOfModel) -> str:
    words = [sanitize(each.verdict, _LONGEST) for each in found.verdicts if each.name == "cue"]
    numbers = [
        f"{metric_label(row.metric)} {show_row(row).full}"
        for row in found.some("shape_bias", "undecided", "error_consistency")
    ]
    return "; ".join([*words, *numbers])


def _say_segmentation(found: StudyOfModel) -> str:
    rows = found.some("miou_multiscale", "miou_slide", "miou_whole")
    return ", ".join(f"{metric_label(row.metric)} {show_row(row).full}" for row in rows)


_SENTENCES: Mapping[str, Callable[[StudyOfModel], str]] = {
    "accuracy": _say_accuracy,
    "calibration": _say_calibration,
    "rank": _say_rank,
    "shape_bias": _say_shape_bias,
    "segmentation": _say_segmentation,
    "transfer": _say_transfer,
}
