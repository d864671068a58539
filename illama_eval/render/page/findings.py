"""The findings of a study, one sentence with numbers for each model, and the report's summary."""

from __future__ import annotations

from collections.abc import Iterator

from illama_eval.render.format.changes import show_change
from illama_eval.render.format.numbers import show_row
from illama_eval.render.models import ReportModels
from illama_eval.render.page.headline import NAMED, TWO, headline_keys, joined_names
from illama_eval.render.select import studies_measured
from illama_eval.render.sentences import as_sentence, say_study, say_verdicts


def findings_of(models: ReportModels, study: str) -> list[str]:
    """Return a sentence per model, its name in front where there are several."""
    sentences = []
    for model in models:
        said = say_study(models.run, model.name, study)
        if said is not None and len(models) > 1:
            sentences.append(f"{model.symbol} {model.label}: {said.text}.")
        elif said is not None:
            sentences.append(as_sentence(said.text))
    return sentences


def summary(models: ReportModels) -> str:
    """Return the most important numbers of the report in a sentence or two."""
    if len(models) == 1:
        text = "; ".join(_highlights(models))
        return as_sentence(text) if text else ""
    if len(models) == TWO and not models.apart:
        return _summary_of_two(models)
    rows = models.headline.get(("accuracy", "top1"), {})
    best = models.best("accuracy", "top1")
    ahead = next((model for model in models if model.name == best), None)
    if ahead is None:
        names = joined_names(models) if len(models) <= NAMED else f"{len(models)} models"
        return f"{names}, side by side."
    value = show_row(rows[ahead.name]).full
    return f"{ahead.symbol} {ahead.label} has the highest top-1 accuracy, {value}."


def _highlights(models: ReportModels) -> Iterator[str]:
    """Yield accuracy and what the verdicts mean; without accuracy what each study found."""
    (model,) = models
    top1 = models.headline.get(("accuracy", "top1"), {})
    for row in top1.values():
        yield f"top-1 accuracy {show_row(row).full} on {row.images:,} images"
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
    sentence = f"{clear} of {len(known)} headline numbers differ clearly on the same images."
    accuracy = models.change(first.name, second.name, "accuracy", "top1")
    if accuracy is None:
        return sentence
    names = f"{second.symbol} {second.label} less {first.symbol} {first.label}"
    clearly = "" if accuracy.finding else ", no clear difference"
    return f"{sentence} Top-1 accuracy, {names}: {show_change(accuracy).full}{clearly}."
