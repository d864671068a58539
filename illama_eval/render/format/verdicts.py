"""Verdicts as sentences that a stranger understands, and whether they deserve a look."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from illama_eval.render.format.escape import LONGEST_NOTE, sanitize
from illama_eval.render.format.glossary import DEFINED, metric_label
from illama_eval.results import Verdict

MARK = "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
"""The mark before what deserves a look."""
_METRIC = re.compile(r"\b(?:ece|nll|[a-z]+(?:_[a-z0-9]+)+)\b")
_NEGATIVE = re.compile(r"(?<![\w.-])-(?=\d)")


class Said(NamedTuple):
    """A sentence without its full stop, and whether what it says deserves a look."""

    text: str
    look: bool = False


_KNOWN: Mapping[str, Mapping[str, Said]] = {
    "chance": {
        "no better than chance": Said(
            "it answers no better than chance: check that the labels are numbered as its classes "
            "are",
            look=True,
        )
    },
    "calibration": {
        "not distinguishable from calibrated": Said(
            "its confidence fits its accuracy, as far as these images show"
        ),
        "over-confident": Said("it is over-confident", look=True),
        "under-confident": Said("it is under-confident", look=True),
        "over-confident in some bins, under-confident in others": Said(
            "its confidence is too high for some answers and too low for others", look=True
        ),
    },
    "temperature": {
        "scaling lowered ece": Said("one temperature for all answers lowers the calibration error"),
        "warning: scaling raised ece": Said(
            "a temperature makes the calibration error larger", look=True
        ),
        "scaling changed ece by less than these images show": Said(
            "a temperature changes the calibration error by less than these images show"
        ),
        "scaling did not raise ece": Said(
            "a temperature does not make the calibration error larger"
        ),
        "not scored": Said("no temperature was fitted"),
    },
    "class_token_isolation": {
        "attends": Said("the class token sees the image"),
        "isolated": Said("the class token sees nothing of the image", look=True),
        "leaks through the denominator": Said(
            "the class token attends to no patch, and the image reaches it through the softmax's "
            "denominator alone",
            look=True,
        ),
    },
    "layer_similarity": {
        "similar": Said("neighbouring layers attend almost alike", look=True),
        "similar in some heads": Said("some heads attend almost as in the layer before", look=True),
        "not similar": Said("each layer attends differently from the one before"),
    },
    "entropy_collapse": {
        "collapsed": Said("attention has collapsed onto single tokens", look=True),
        "collapsed in some heads": Said(
            "attention has collapsed onto single tokens in some heads", look=True
        ),
        "not collapsed": Said("attention is spread over many tokens"),
    },
    "row_mass": {
        "loses mass": Said("rows of attention sum to less than one", look=True),
        "loses mass in some heads": Said(
            "rows of attention sum to less than one in some heads", look=True
        ),
        "below one by design": Said(
            "rows of attention sum to less than one, as this mask is designed to make them"
        ),
        "rows sum to one": Said("rows of attention sum to one"),
    },
    "attention_sinks": {
        "sinks": Said("single tokens draw a large part of all attention", look=True),
        "sinks in some heads": Said(
            "single tokens draw a large part of the attention of some heads", look=True
        ),
        "no sinks": Said("no single token draws a large part of the attention"),
    },
    "token_norm_outliers": {
        "outliers": Said("some patches have states far larger than the others", look=True),
        "no outliers": Said("no patch has a state far larger than the others"),
    },
    "massive_activations": {
        "massive": Said("single activations are a thousand times the median", look=True),
        "none": Said("no single activation is a thousand times the median"),
    },
    "token_rank": {
        "tokens alike": Said("the states of all patches are almost alike", look=True),
        "tokens differ": Said("the states of the patches differ"),
    },
    "causality": {
        "causal": Said("it is causal: what comes later changes nothing in the earlier patches"),
        "bidirectional": Said("it is bidirectional: later patches change the earlier ones"),
        "leaks through the denominator": Said(
            "it is not strictly causal: through the softmax's denominator later patches change "
            "the earlier ones"
        ),
        "leaks": Said("it is not causal: later patches change the earlier ones", look=True),
    },
    "cue": {
        "decides by shape": Said("where shape and texture disagree, it goes by the shape more"),
        "decides by texture": Said("where shape and texture disagree, it goes by the texture more"),
        "no preference shown": Said(
            "where shape and texture disagree, these pictures show no preference"
        ),
    },
}
"""Name and words of a verdict, as studies write them -> what it means."""


def say_reason(reason: str) -> str:
    """Return what decided a verdict, with the names and signs of the tables."""
    named = _METRIC.sub(
        lambda found: metric_label(found[0]) if found[0] in DEFINED else found[0],
        sanitize(reason, LONGEST_NOTE),
    )
    return _NEGATIVE.sub("\N{MINUS SIGN}", named.replace(" -> ", " \N{RIGHTWARDS ARROW} "))


def say_verdict(verdict: Verdict) -> Said:
    """Return what a verdict means; one that is not known, or undecided, in its own words."""
    words = re.sub(r" from block \d+$", "", verdict.verdict)
    known = _KNOWN.get(verdict.name, {}).get(words)
    if known is not None:
        return known
    name = sanitize(verdict.name.replace("_", " "), LONGEST_NOTE)
    said = f"{name}: {sanitize(verdict.verdict, LONGEST_NOTE)}"
    undecided = verdict.verdict == "undecided" and verdict.reason
    return Said(f"{said} ({sanitize(verdict.reason, LONGEST_NOTE)})" if undecided else said)
