"""Figure of causality: how the earlier patches' states change by layer."""

from __future__ import annotations

from collections.abc import Iterator

from illama_eval.render.figures.canvas import Drawing
from illama_eval.render.figures.depth import Line, Panel, draw_depth, line_of
from illama_eval.render.format.verdicts import say_verdict
from illama_eval.render.select import images_of
from illama_eval.render.style.palette import RUNS, looks_of
from illama_eval.results import Run

_STUDY = "causality"
_KEPT = ("25 %", "50 %", "75 %")
"""Shares of the patches that stay."""


def draw_causality(run: Run) -> Iterator[Drawing]:
    """Yield the change of the patches that stay, and of the class token, against the layer.

    A lone subject has a line for each share that stays, several have one for all shares.
    """
    panels = [
        Panel(title=title, label="relative change (%)", lines=lines)
        for metric, title in (("kept_change", "earlier patches"), ("class_change", "class token"))
        if (lines := _lines(run, metric))
    ]
    if not panels:
        return
    words = [f"{v.subject}: {say_verdict(v).text}." for v in run.verdicts if v.study == _STUDY]
    yield draw_depth(
        "causality_by_layer",
        "Change of states when later patches are replaced",
        f"{' '.join(words)} Means over {images_of(run, _STUDY)}, whose last patches in raster "
        "order are replaced by another image's; bands: 95 % bootstrap intervals. Of a causal model "
        "the earlier patches do not change; a class token at the end is to change.",
        panels,
    )


def _lines(run: Run, metric: str) -> list[Line]:
    looks = looks_of(run)
    if len(looks) != 1:
        found = [
            line_of(run, _STUDY, metric, name, (look.label, look.colour, look.marker))
            for name, look in looks
        ]
    else:
        subject = looks[0][0]
        found = [
            line_of(
                run,
                _STUDY,
                metric,
                subject,
                (f"first {kept} of the patches stay", *look),
                kept=kept,
            )
            for kept, look in zip(_KEPT, RUNS[1:], strict=False)
        ]
    return [line for line in found if line is not None]
