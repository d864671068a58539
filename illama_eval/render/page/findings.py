"""What a study found, in one sentence with numbers for each model; and the page's summary."""

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
from illama_eval.render.page.differences import best_of
from illama_eval.render.page.headline import TWO, headline_keys, name_of
from illama_eval.results import Row, Verdict

Rows: TypeAlias = Mapping[str, Row]

_LONGEST = 300


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one study says of one model."""

    lineup: ReportModels
    name: str
    rows: Rows
    """Metric -> row for the whole source."""
    verdicts: Sequence[Verdict]

    def some(self, *metrics: str) -> list[Row]:
        """Return the rows of these metrics, as far as they are there."""
        return [self.rows[metric] for metric in metrics if metric in self.rows]


def findings_of(lineup: ReportModels, study: str) -> list[str]:
    """Return a sentence per model, its name in front where there are several."""
    say = _SENTENCES.get(study, _say_anything)
    sentences = []
    for model in lineup.models:
        sentence = say(_see(lineup, study, model.name))
        if sentence and len(lineup.models) > 1:
            sentences.append(f"{model.symbol} {model.label}: {sentence}.")
        elif sentence:
            sentences.append(f"{_begun(sentence)}.")
    return sentences


def _begun(sentence: str) -> str:
    """Return a sentence with a large letter in front, unless it begins with a name like mIoU."""
    return sentence if sentence[1:2].isupper() else f"{sentence[0].upper()}{sentence[1:]}"


def _see(lineup: ReportModels, study: str, name: str) -> Seen:
    rows = {
        metric: found[name]
        for (other, metric), found in lineup.headline.items()
        if other == study and name in found
    }
    verdicts = [each for each in lineup.run.verdicts if (each.study, each.subject) == (study, name)]
    return Seen(lineup=lineup, name=name, rows=rows, verdicts=verdicts)


def summary(lineup: ReportModels) -> str:
    """Return what matters most of the whole page."""
    if len(lineup.models) == 1:
        parts = [part for part in _highlights(lineup) if part]
        sentence = "; ".join(parts)
        return f"{_begun(sentence)}." if sentence else ""
    if len(lineup.models) == TWO and not lineup.apart:
        return _summary_of_two(lineup)
    rows = lineup.headline.get(("accuracy", "top1"), {})
    best = best_of(lineup, rows) if rows else None
    ahead = next((model for model in lineup.models if model.name == best), None)
    if ahead is None:
        return f"{name_of(lineup.models)}, side by side."
    value = show_row(rows[ahead.name]).full
    return f"{ahead.symbol} {ahead.label} has the highest top-1 accuracy, {value}."


def _highlights(lineup: ReportModels) -> Iterator[str]:
    top1 = lineup.headline.get(("accuracy", "top1"), {})
    for row in top1.values():
        yield f"top-1 accuracy {show_row(row).full} on {row.images:,} images"
    for verdict in lineup.run.verdicts:
        if (verdict.study, verdict.name) == ("calibration", "calibration"):
            yield sanitize(verdict.verdict, _LONGEST)
        if (verdict.study, verdict.name) == ("collapse", "class_token_isolation"):
            yield f"the class token {sanitize(verdict.verdict, _LONGEST)}"
    if not top1:
        for study in dict.fromkeys(study for study, _ in lineup.headline):
            seen = _see(lineup, study, lineup.models[0].name)
            yield _SENTENCES.get(study, _say_anything)(seen)


def _summary_of_two(lineup: ReportModels) -> str:
    """Return how many headline numbers differ clearly, and how accuracy does."""
    first, second = (model.name for model in lineup.models)
    changes = [lineup.change(first, second, *key) for key in headline_keys(lineup)]
    known = [change for change in changes if change is not None]
    clear = sum(bool(change.finding) for change in known)
    sentence = f"{clear} of {len(known)} headline numbers differ clearly on the same images."
    accuracy = lineup.change(first, second, "accuracy", "top1")
    if accuracy is None:
        return sentence
    model, shown = lineup.models[1], show_change(accuracy)
    clearly = "" if accuracy.finding else ", which is not clear"
    return f"{sentence} Top-1 accuracy of {model.symbol} {model.label}: {shown.full}{clearly}."


def _say_accuracy(seen: Seen) -> str:
    rows = seen.some("top1", "top5")
    parts = [f"{metric_label(row.metric)} {show_row(row).full}" for row in rows]
    return f"{', '.join(parts)}, on {rows[0].images:,} images" if rows else ""


def _say_calibration(seen: Seen) -> str:
    words = [
        sanitize(each.verdict, _LONGEST) for each in seen.verdicts if each.name == "calibration"
    ]
    parts = [*words, *(f"ECE {show_row(row).full}" for row in seen.some("ece"))]
    right = seen.lineup.headline.get(("accuracy", "top1"), {}).get(seen.name)
    for sure in seen.some("confidence"):
        if right and sure.value is not None and right.value is not None:
            side = "under" if sure.value < right.value else "over"
            means = f"mean confidence {show_row(sure).value} %, accuracy {show_row(right).value} %"
            parts.append(f"{side}-confident on the whole: {means}")
    return "; ".join(parts)


def _say_rank(seen: Seen) -> str:
    mine = [maps for maps in seen.lineup.maps if maps.subject == seen.name]
    known = [row for row in seen.some("rank_of_mean_map") if row.value is not None]
    if not mine or not known:
        return ""
    share = 100 * threshold_of(seen.lineup.run)
    return (
        f"the maps that the model uses need {show_row(known[0]).value} of {mine[0].tokens} "
        f"singular values for {share:.4g} % of their sum, on the mean over layers and heads"
    )


_TRANSFERRED = {
    "chosen_c": "linear probe with C =",
    "neighbours": "votes of neighbours, k =",
    "best_epoch": "all weights trained, best in epoch",
}


def _say_transfer(seen: Seen) -> str:
    """Return what was trained on how many images, and the accuracy that came of it."""
    parts = [f"{show_row(row).value} training images" for row in seen.some("training_images")]
    for metric, words in _TRANSFERRED.items():
        parts += [
            f"{words} {show_row(row).value}, {sanitize(row.reason, _LONGEST)}"
            for row in seen.some(metric)
        ]
    top1 = seen.lineup.headline.get(("accuracy", "top1"), {}).get(seen.name)
    if top1 is not None:
        parts.append(f"top-1 accuracy {show_row(top1).full} on {top1.images:,} test images")
    return "; ".join(parts)


def _say_anything(seen: Seen) -> str:
    """Return all verdicts, or the first numbers where there is none."""
    verdicts = [
        f"{sanitize(each.name.replace('_', ' '), _LONGEST)}: {sanitize(each.verdict, _LONGEST)}"
        for each in seen.verdicts
    ]
    rows = list(seen.rows.values())[:TWO]
    return "; ".join(verdicts) or ", ".join(
        f"{metric_label(row.metric)} {show_row(row).full}" for row in rows
    )


def _say_shape_bias(seen: Seen) -> str:
    words = [sanitize(each.verdict, _LONGEST) for each in seen.verdicts if each.name == "cue"]
    numbers = [
        f"{metric_label(row.metric)} {show_row(row).full}"
        for row in seen.some("shape_bias", "undecided", "error_consistency")
    ]
    return "; ".join([*words, *numbers])


def _say_segmentation(seen: Seen) -> str:
    rows = seen.some("miou_multiscale", "miou_slide", "miou_whole")
    return ", ".join(f"{metric_label(row.metric)} {show_row(row).full}" for row in rows)


_SENTENCES: Mapping[str, Callable[[Seen], str]] = {
    "accuracy": _say_accuracy,
    "calibration": _say_calibration,
    "rank": _say_rank,
    "shape_bias": _say_shape_bias,
    "segmentation": _say_segmentation,
    "transfer": _say_transfer,
}
