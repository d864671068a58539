"""Colours, markers and dashes: legible in print, in grey and to colour-blind readers.

Every colour has a contrast of at least 3:1 on white (text 4.5:1); the five identities keep an
OKLab distance of 14.8 under normal and colour-deficient vision and differ in grey.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from illama.figure_style import AXIS, BLACK, BLUE, GREEN, MUTED, ORANGE, PURPLE
from illama_eval.render.select import subjects_of
from illama_eval.render.style.fonts import drawable
from illama_eval.results import Run

SEQUENTIAL = ("#00224E", "#2A3F6D", "#575D6D", "#7D7C78", "#A59C74", "#D2C060", "#FEE838")
"""Seven bins of cividis, dark to light."""
ON_SEQUENTIAL = ("#FFFFFF",) * 3 + ("#000000",) * 4
"""The text colour on each bin: contrast 5.0 or more."""
ON_BRIGHT = "#0B0D10"
"""Words on a bright cell of a figure: not black, which an SVG need not name and a theme changes."""

RUNS = ((BLACK, "o"), (BLUE, "D"), (ORANGE, "^"), (GREEN, "s"), (PURPLE, "P"))
_FURTHER = (AXIS, "o")
CONTROL = (MUTED, "X")
"""The look of a model with random weights, the same in every figure."""
_LONGEST_LABEL = 40


@dataclass(frozen=True)
class Identity:
    """How one subject looks in every figure of a run."""

    label: str
    """The subject's name, cut if very long, in characters that the font has."""
    colour: str
    marker: str


def looks_of(run: Run) -> list[tuple[str, Identity]]:
    """Return each subject with its look; of more than five, all but the first are grey.

    A lone subject has the second look: beside a baseline it is the candidate. A model with random
    weights has a look of its own, and is not counted.
    """
    subjects = subjects_of(run)
    controls = {name for name in subjects if is_control(name)}
    trained = [name for name in subjects if name not in controls]
    if len(trained) == 1:
        looks = [RUNS[1]]
    elif len(trained) > len(RUNS):
        looks = [RUNS[1]] + [_FURTHER] * (len(trained) - 1)
    else:
        looks = list(RUNS[: len(trained)])
    found = dict(zip(trained, looks, strict=True)) | dict.fromkeys(controls, CONTROL)
    return [
        (subject, Identity(drawable(subject, _LONGEST_LABEL), *found[subject]))
        for subject in subjects
    ]


def is_control(subject: str) -> bool:
    """Return whether it is a model with random weights: `random`, `random+linear`, `x-random`."""
    return "random" in re.split(r"[^a-z]+", subject.lower())
