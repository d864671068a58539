"""The findings of a study, one sentence with numbers for each model, and the report's summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from illama_eval.render.format.changes import show_change
from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import metric_label
from illama_eval.render.format.numbers import show_images, show_row
from illama_eval.render.models import NAMED, ReportModel, ReportModels
from illama_eval.render.page.headline import TWO, headline_keys, joined_names
from illama_eval.render.select import studies_measured
from illama_eval.render.sentences import as_sentence, say_study, say_verdicts
from illama_eval.results import Row, nested_get

_OF_RANGE = (("accuracy", "top1"), ("calibration", "ece"), ("rank", "rank_of_mean_map"))
"""(study, metric) of what a summary of one model over a range is about."""


def findings_of(models: ReportModels, study: str) -> list[str]:
    """Return a sentence per model, once for all that it is the same of, their names in front."""
    owners: dict[str, list[ReportModel]] = {}
    for model in models:
        said = say_study(models.run, model.name, study)
        if said is not None:
            owners.setdefault(said.text, []).append(model)
    if len(models) == 1:
        return [as_sentence(text) for text in owners]
    return [f"{models.say_names(members)}: {text}." for text, members in owners.items()]


def summary(models: ReportModels) -> str:
    """Return the most important numbers of the report in a sentence or two."""
    if len(models) == 1:
        text = "; ".join(_highlights(models))
        return as_sentence(text) if text else ""
    variable = nested_get(models.run.header, "variable")
    if variable is not None:
        return _summary_of_range(models, variable)
    if len(models) == TWO and models.paired:
        return _summary_of_two(models)
    rows = models.headline.get(("accuracy", "top1"), {})
    best = models.best("accuracy", "top1")
    ahead = next((model for model in models if model.name == best), None)
    if ahead is None:
        names = joined_names(models) if len(models) <= NAMED else f"{len(models)} models"
        clear = ", none clearly ahead of all others" if models.paired else ""
        return f"{names}, side by side{_spread(list(rows.values()))}{clear}."
    value = show_row(rows[ahead.name]).full
    return f"{ahead.symbol} {ahead.label} has the highest top-1 accuracy, {value}."


def _spread(rows: Sequence[Row]) -> str:
    """Return from where to where the accuracies of several models go; empty without any."""
    known = sorted((row for row in rows if row.value is not None), key=lambda row: row.value or 0.0)
    if not known:
        return ""
    low, high = show_row(known[0]), show_row(known[-1])
    return f": top-1 accuracy from {low.value} to {high.value} %"


def _summary_of_range(models: ReportModels, variable: Mapping[str, Any]) -> str:
    """Return how the most important numbers go from the lowest value to the highest."""
    lowest, *_, highest = sorted(variable["values"], key=variable["values"].get)
    parts = []
    for key in _OF_RANGE:
        rows = models.headline.get(key, {})
        ends = [show_row(rows[name]) for name in (lowest, highest) if name in rows]
        if len(ends) == TWO:
            change = models.change(lowest, highest, *key)
            clear = " (no clear difference)" if change is not None and not change.finding else ""
            before, after = (f"{end.value} {end.unit}".replace(" index", "") for end in ends)
            parts.append(f"{metric_label(key[1])} {before} to {after}{clear}")
    low, high = (f"{variable['values'][name]:g}" for name in (lowest, highest))
    name = sanitize(str(variable["name"]).replace("_", " "))
    return f"From {name} {low} to {high}: {', '.join(parts) or 'nothing to compare'}."


def _highlights(models: ReportModels) -> Iterator[str]:
    """Yield accuracy and what the verdicts mean; without accuracy what each study found."""
    (model,) = models
    top1 = models.headline.get(("accuracy", "top1"), {})
    for row in top1.values():
        yield f"top-1 accuracy {show_row(row).full} on {show_images(row.images)}"
    say = say_verdicts if top1 else say_study
    for study in studies_measured(models.run):
        said = say(models.run, model.name, study)
        if said is not None:
            yield said.text


def _summary_of_two(models: ReportModels) -> str:
    """Return how many headline numbers differ clearly, and how accuracy does."""
    first, second = models
    changes = [models.change(first.name, second.name, *key) for key in headline_keys(models)]
    known = [change for change in changes if change is not None]
    clear = sum(bool(change.finding) for change in known)
    differ = f"{clear} of {len(known)} headline numbers differ" if clear else "No number differs"
    sentence = f"{differ} clearly on the same images."
    accuracy = models.change(first.name, second.name, "accuracy", "top1")
    if accuracy is None:
        return sentence
    names = f"{second.symbol} {second.label} minus {first.symbol} {first.label}"
    clearly = "" if accuracy.finding else ", no clear difference"
    return f"{sentence} Top-1 accuracy, {names}: {show_change(accuracy).full}{clearly}."
