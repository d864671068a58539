"""A whole report put together from the models of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from illama_eval.compare.gate import GateResult
from illama_eval.render.figures.canvas import Drawing
from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import DEFINED, metric_label
from illama_eval.render.models import ReportModels
from illama_eval.render.page.differences import (
    changes_of,
    changes_section,
    gated_table,
    judgement_of,
)
from illama_eval.render.page.document import Document, Judgement
from illama_eval.render.page.findings import summary
from illama_eval.render.page.headline import COVERED, headline_note, headline_table, name_of
from illama_eval.render.page.provenance import (
    boxes_of,
    commands_of,
    identity_of,
    not_run,
    provenance_of,
    source_of,
)
from illama_eval.render.page.sections import MOST_ROWS, rows_of, samples_section, sections_of
from illama_eval.render.paper import PAPER
from illama_eval.render.samples import Samples as Stored

NOTES = """\
Intervals are 95 % bootstrap intervals over the images: every image has 200 Poisson weights that \
depend on its id alone, so two runs over the same images are resampled alike and their differences \
are paired. They cover the choice of images, not training seeds, hardware or labels.
Binned calibration errors are biased upward in resamples; their intervals are reflected about the \
estimate (basic bootstrap).
Digits follow the interval: two significant digits of its half-width; without one, four. A dash \
stands where a number is not defined, with the reason beside it.
Numbers by layer, head or class are explored, not tested: among hundreds some differ by chance.
Fractions are shown as percent; the CSV files hold all rows as fractions with full digits."""


def document_of(
    lineup: ReportModels,
    drawings: Sequence[Drawing],
    stored: Mapping[str, Stored],
    *,
    most_rows: int = MOST_ROWS,
    left_out: Sequence[str] = (),
    verdicts: GateResult | None = None,
) -> Document:
    """Return the report of these models.

    `drawings` are the figures of `lineup.run`, `stored` the samples of each model; `left_out`
    says what is missing for want of room, `verdicts` what a gate says of the run.
    """
    samples = samples_section(lineup, stored)
    headline = gated_table(verdicts) if verdicts else headline_table(lineup)
    changes = changes_section(verdicts) if verdicts else changes_of(lineup)
    provenance = provenance_of(lineup)
    taken = sum(len(table.rows) for table in (headline, *provenance))
    taken += rows_of(changes) if changes else 0
    metrics = dict.fromkeys(metric for _, _, metric in lineup.run.by_metric)
    return Document(
        title=_title(lineup),
        judgement=judgement_of(verdicts) if verdicts else _judgement(lineup),
        subjects=[identity_of(model) for model in lineup.models],
        source=source_of(lineup),
        boxes=[*boxes_of(lineup), *left_out],
        headline=headline,
        headline_note=COVERED if verdicts else headline_note(lineup),
        changes=changes,
        sections=[
            *sections_of(lineup, drawings, most_rows - taken),
            *([samples] if samples else []),
        ],
        not_run=not_run(lineup),
        command=commands_of(lineup),
        provenance=provenance,
        notes=[*NOTES.splitlines(), f"“Published” and “the paper” mean: {PAPER}."],
        glossary=[(metric_label(name), DEFINED[name]) for name in metrics if name in DEFINED],
    )


def _title(lineup: ReportModels) -> str:
    source = lineup.run.rows[0].source if lineup.run.rows else ""
    names = name_of(lineup.models) or "nothing measured"
    return f"{names} on {sanitize(source)}" if source else names


def _judgement(lineup: ReportModels) -> Judgement:
    """Return the first sentence of a page without a gate."""
    sentence = f"{summary(lineup)} No baseline was given: nothing was gated.".strip()
    return Judgement(symbol="\N{MIDDLE DOT}", word="Not gated", tone="neutral", sentence=sentence)
