"""How the figures of both packages look: colours, and settings of matplotlib.

The user's own settings are ignored, so that the same numbers give the same figure everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TEXT, MUTED, AXIS, HAIRLINE, PAPER = "#1B1F24", "#59616C", "#7A828E", "#D5D9DF", "#FFFFFF"
BLACK, BLUE, ORANGE, GREEN, PURPLE = "#22262C", "#3271EE", "#E76C2E", "#005725", "#94468F"
"""Colours of models and runs: legible in print, in grey and to colour-blind readers."""
FONT_SIZE = 9.6
"""Points of texts of size `medium`."""

SETTINGS: Mapping[str, Any] = {
    "text.parse_math": False,  # a file may be called $\frac{$
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "axes.edgecolor": AXIS,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.5,
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
    "xtick.color": AXIS,
    "ytick.color": AXIS,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "illama",
    "pdf.fonttype": 42,  # TrueType, which journals ask for
}
"""What all figures share."""
