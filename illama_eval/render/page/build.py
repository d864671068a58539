"""The contents of a whole report, built from its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from illama_eval.compare.gate import GateResult
from illama_eval.render.figures.canvas import Drawing
from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import DEFINED, metric_label
from illama_eval.render.models import MOST_TOLD_APART, NAMED, ReportModels
from illama_eval.render.page.differences import (
    changes_of,
    changes_section,
    gated_table,
    judgement_of,
)
from illama_eval.render.page.document import Document, Judgement
from illama_eval.render.page.findings import summary
from illama_eval.render.page.headline import COVERED, headline_note, headline_table, joined_names
from illama_eval.render.page.provenance import (
    boxes_of,
    commands_of,
    identity_of,
    not_run,
    provenance_of,
    remarks_of,
    source_of,
)
from illama_eval.render.page.sections import (
    MOST_ROWS,
    lead_section,
    rows_of,
    samples_section,
    sections_of,
)
from illama_eval.render.paper import PAPER
from illama_eval.render.samples import Samples as Stored
from illama_eval.render.select import series_of
from illama_eval.results import nested_get

NOTES = """\
Intervals are 95 % intervals over the images: every image has 200 Poisson weights that depend on \
its id alone, so two runs over the same images are resampled alike and their differences are \
paired. They cover the choice of images, not training seeds, hardware or labels. Means have \
Student's interval with the resamples' deviation and skewness, shares of images Wilson's, binned \
calibration errors the inverse of their test, ranks of mean maps a jackknife over groups of images.
Where no interval is known to cover, none is given, and the reason stands beside the number.
Digits follow the interval: two significant digits of its half-width; without one, four. A dash \
stands where a number is not defined, with the reason beside it.
Numbers by layer, head or class are explored, not tested: among hundreds some differ by chance.
Fractions are shown as percent; the CSV files hold all rows as fractions with full digits."""


def document_of(
    models: ReportModels,
    drawings: Sequence[Drawing],
    stored: Mapping[str, Stored],
    *,
    most_rows: int = MOST_ROWS,
    left_out: Sequence[str] = (),
    result: GateResult | None = None,
) -> Document:
    """Return the report of these models.

    `drawings` are the figures of `models.run`, `stored` the samples of each model, `left_out` notes
    on what did not fit, `result` that of a gate.
    """
    samples = samples_section(models, stored)
    headline = gated_table(result) if result else headline_table(models)
    changes = changes_section(result) if result else changes_of(models)
    provenance = provenance_of(models)
    taken = sum(len(table.rows) for table in (headline, *provenance))
    taken += rows_of(changes) if changes else 0
    metrics = dict.fromkeys(metric for _, _, metric in models.run.by_metric)
    return Document(
        title=_title(models),
        judgement=judgement_of(result) if result else _judgement(models),
        subjects=[identity_of(models, model) for model in models],
        crowded=len(models) > MOST_TOLD_APART,
        source=source_of(models),
        boxes=[*boxes_of(models), *left_out],
        remarks=remarks_of(models),
        headline=headline,
        headline_note=COVERED if result else headline_note(models),
        lead=lead_section(drawings),
        changes=changes,
        sections=[
            *sections_of(models, drawings, most_rows - taken),
            *([samples] if samples else []),
        ],
        not_run=not_run(models),
        command=commands_of(models),
        provenance=provenance,
        notes=[*NOTES.splitlines(), f"“Published” and “the paper” mean: {PAPER}."],
        glossary=[(metric_label(name), DEFINED[name]) for name in metrics if name in DEFINED],
    )


def _title(models: ReportModels) -> str:
    source = models.run.rows[0].source if models.run.rows else ""
    names = joined_names(models) or "nothing measured"
    variable, _ = series_of(models.run)
    if variable:
        names = f"{_first_name(models)} by {sanitize(variable)}"
    elif len(models) > NAMED:
        names = f"{len(models)} models"
    if len(models.sources) > 1:
        return f"{names} on {len(models.sources)} sets of images"
    return f"{names} on {sanitize(source)}" if source else names


def _first_name(models: ReportModels) -> str:
    """Return what the names of one model over a range begin with."""
    reference = nested_get(models.run.header, "variable", "reference")
    return sanitize(reference) if reference else f"{len(models)} checkpoints"


def _judgement(models: ReportModels) -> Judgement:
    """Return the first sentence of a page without a gate."""
    return Judgement(
        symbol="\N{MIDDLE DOT}", word="Result", tone="neutral", sentence=summary(models)
    )
