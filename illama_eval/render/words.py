"""What studies, metrics and attention maps are called in tables and figures."""

from __future__ import annotations

import re
from collections.abc import Sequence

from illama_eval.render.explanations import EXPLAINED
from illama_eval.render.text import plain
from illama_eval.results import Row

ARROWS = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}", None: ""}
"""Which way is better."""
_UNITS = {"squared distance": "distance\N{SUPERSCRIPT TWO}"}
_LONGEST_NAME = 48
_LONGEST_UNIT = 9

_METRICS = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "nll": "NLL",
    "nonfinite": "non-finite logits",
    "ece": "ECE",
    "ece_left": "ECE, bins [lo, hi)",
    "ece_mass": "ECE, equal mass",
    "ece_floor": "ECE floor",
    "mce": "MCE",
    "rmsce": "RMSCE",
    "rmsce_debiased": "RMSCE, debiased",
    "classwise_ece": "class-wise ECE",
    "brier": "Brier score",
    "confidence": "mean confidence",
    "aurc": "AURC",
    "ece_scaled": "ECE, scaled",
    "nll_scaled": "NLL, scaled",
    "ece_unscaled": "ECE, unscaled",
    "nll_unscaled": "NLL, unscaled",
    "flips": "changed answers",
    "kl": "KL divergence",
    "logit_mse": "MSE of logits",
    "logit_cosine": "cosine of logits",
    "logit_sqnr": "SQNR of logits",
    "sqnr": "SQNR of tokens",
    "held_out_top1": "held-out top-1",
    "chosen_c": "chosen C",
    "shape_bias_wilson": "shape bias, Wilson interval",
    "shape_bias_macro": "shape bias, mean of categories",
    "category_accuracy": "accuracy of categories",
    **{
        f"{name}_{way}": f"{label}, {way}"
        for way in ("whole", "slide", "multiscale")
        for name, label in (
            ("miou", "mIoU"),
            ("pixel_accuracy", "pixel accuracy"),
            ("class_accuracy", "class accuracy"),
        )
    },
    "iou": "IoU",
    "rank_of_mean_map": "rank of mean map",
    "rank_per_image": "rank per image",
}
_MAPS = {
    "used": "used map",
    "softmax": "softmax, all keys",
    "masked": "softmax, masked",
}


def metric_label(metric: str) -> str:
    """Return the metric's name for readers; an unlisted one with spaces for underscores."""
    return _METRICS.get(metric) or plain(metric.replace("_", " "), _LONGEST_NAME)


def map_label(name: str) -> str:
    """Return the attention map's name for readers."""
    return _MAPS.get(name) or plain(name, _LONGEST_NAME)


def study_label(study: str) -> str:
    """Return the study's name for readers."""
    return plain(study.replace("_", " "), _LONGEST_NAME)


def study_title(study: str) -> str:
    """Return the study's name as a heading."""
    known = EXPLAINED.get(study)
    return known.title if known else study_label(study).capitalize()


def anchor(name: str) -> str:
    """Return the name as an id of the page, and as the stem of a file."""
    return re.sub(r"[^A-Za-z0-9_-]", "", name)[:_LONGEST_NAME] or "table"


def unit_label(unit: str) -> str:
    """Return the unit, short enough for a column."""
    return _UNITS.get(unit) or plain(unit, _LONGEST_UNIT)


def heading(rows: Sequence[Row]) -> str:
    """Return whose numbers these are: `subject on source`, both cut if very long."""
    first = rows[0]
    return f"{plain(first.subject, _LONGEST_NAME)} on {plain(first.source, _LONGEST_NAME)}"
