"""The gate's result as sentences, labels, notes and JSON, the same in every output."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from illama_eval.compare.comparison import Comparison
from illama_eval.compare.gate import NEAR_CALIBRATED, GateResult, MetricVerdict, State
from illama_eval.render.format.changes import show_change, show_margin
from illama_eval.render.format.escape import LONGEST_NOTE, sanitize
from illama_eval.render.format.glossary import metric_label, place_label
from illama_eval.render.format.numbers import show_images

SCHEMA_VERSION = 1
SYMBOLS: Mapping[State, str] = {
    "worse": "\N{BLACK DOWN-POINTING TRIANGLE}",
    "missing": "\N{EMPTY SET}",
    "not comparable": "\N{NOT EQUAL TO}",
    "inconclusive": "?",
    "better": "\N{BLACK UP-POINTING TRIANGLE}",
    "new": "+",
    "same": "=",
    "not gated": "\N{MIDDLE DOT}",
}
"""The symbol of each state, in the order in which states are listed: losses first."""
_STRICT = 'which the policy fails (inconclusive = "fail")'
_NAMED = 3
"""Metrics that the sentence names; the others it counts."""


def sentence(result: GateResult) -> str:
    """Return the verdict in one sentence: whether it passes, which metric decided, by how much."""
    unjudged = result.of("error")
    gated = result.of("pass", "warn", "fail", "error")
    if result.of("fail"):
        parts = [*_failures(result, len(gated))]
        parts += [f"{len(unjudged)} could not be judged"] if unjudged else []
        return "; ".join(parts) + "."
    if result.problem:
        return f"Not judged: {sanitize(result.problem, LONGEST_NOTE)}."
    if unjudged:
        return f"Not judged: {'; '.join(_unjudged(unjudged))}."
    counts = Counter(map(_state_in_words, by_outcome(gated)))
    counted = ", ".join(f"{count} {words}" for words, count in counts.items())
    return f"No regression found in {len(gated)} gated metrics: {counted}."


def _unjudged(judged: Sequence[MetricVerdict]) -> Iterator[str]:
    """Yield why metrics could not be judged, those of one reason together."""
    by_reason: dict[tuple[str, str], list[MetricVerdict]] = {}
    for each in judged:
        by_reason.setdefault((each.state, each.reason), []).append(each)
    for (state, reason), alike in by_reason.items():
        named = ", ".join(metric_label(each.metric) for each in alike[:_NAMED])
        are = "is" if len(alike) == 1 else "are"
        yield f"{named}{_more(alike, ',')} {are} {state}, {sanitize(reason, LONGEST_NOTE)}"


def _failures(result: GateResult, gated: int) -> Iterator[str]:
    """Yield what is worse, and what the policy fails though it may be none the worse."""
    worse, unproven = result.regressions, result.unproven
    if worse:
        named = "; ".join(map(_loss, worse[:_NAMED])) + _more(worse)
        yield f"Regression in {len(worse)} of {gated} gated metrics: {named}"
    if unproven:
        named = "; ".join(map(_loss, unproven[:_NAMED])) + _more(unproven)
        yield f"{_begin(worse)} in {len(unproven)} of {gated} gated metrics, {_STRICT}: {named}"


def _begin(worse: Sequence[MetricVerdict]) -> str:
    return "inconclusive" if worse else "No regression shown, but failed: inconclusive"


def by_outcome(judged: Sequence[MetricVerdict]) -> list[MetricVerdict]:
    """Return the verdicts in the order of SYMBOLS: losses first."""
    order = list(SYMBOLS)
    return sorted(judged, key=lambda each: order.index(each.state))


def state_label(judged: MetricVerdict) -> str:
    """Return symbol and words of a state, and where it matters what the policy makes of it."""
    made_of = {
        ("worse", "warn"): " (warning)",
        ("inconclusive", "fail"): " (fails by the policy)",
    }.get((judged.state, judged.outcome), "")
    return f"{SYMBOLS[judged.state]} {_state_in_words(judged)}{made_of}"


def remark(judged: MetricVerdict) -> str:
    """Return the note on a verdict; may be empty."""
    if judged.images_wanted is None:
        return sanitize(judged.reason, LONGEST_NOTE)
    return f"a loss of the margin takes about {_images_wanted(judged)} images to see"


def notes_on(comparison: Comparison, judged: Sequence[MetricVerdict]) -> list[str]:
    """Return the notes on one subject: flips, other differences, and remarks on its metrics."""
    notes = [flips_in_words(comparison), other_differences_in_words(comparison), *comparison.notes]
    wanted = [
        f"{metric_label(each.metric)} {_images_wanted(each)}"
        for each in judged
        if each.images_wanted is not None
    ]
    if wanted:
        notes.append(f"images needed to see a loss of the margin: {'; '.join(wanted)}")
    by_reason: dict[str, list[str]] = {}
    for each in judged:
        reason = sanitize(each.reason, LONGEST_NOTE)
        by_reason.setdefault(reason, []).append(metric_label(each.metric))
    notes += [f"{'; '.join(names)}: {why}" for why, names in by_reason.items() if why]
    return [note for note in notes if note]


def flips_in_words(comparison: Comparison) -> str:
    """Return the images lost and gained with McNemar's test; empty without per-image records."""
    flips = comparison.flips
    if flips is None:
        return ""
    if not flips.changed:
        return f"All {show_images(flips.images)} get the same answer"
    counted = (
        f"Of {show_images(flips.images)} {flips.changed:,} get another answer: "
        f"{flips.lost:,} right ones are lost, {flips.gained:,} gained"
    )
    test = flips.test
    if test is None or not flips.detectable:
        return counted
    return (
        f"{counted} (McNemar's p {test.p:.3g}); a true difference of "
        f"{100 * flips.detectable:.3g} pp would be found in four cases of five"
    )


def other_differences_in_words(comparison: Comparison) -> str:
    """Return what else differs between the two sides; may be empty."""
    named = [
        f"{place_label(each.field)} {sanitize(each.baseline)} / {sanitize(each.candidate)}"
        for each in comparison.other_differences
    ]
    return f"also different: {', '.join(named)}" if named else ""


def to_json(result: GateResult) -> str:
    """Return the result as JSON, with the exit code."""
    listed = [
        {**asdict(each), "name": each.name, "change": each.change and asdict(each.change)}
        for each in result.judged
    ]
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "exit_code": result.exit_code,
        "sentence": sentence(result),
        "run": result.run,
        "baseline": result.baseline,
        "problem": result.problem,
        "judged": listed,
        "comparisons": [
            {**asdict(each), "changes": len(each.changes)} for each in result.comparisons
        ],
    }
    return json.dumps(fields, indent=1, allow_nan=False) + "\n"


def _loss(judged: MetricVerdict) -> str:
    """Return the metric, its change and the margin that it exceeds."""
    if judged.change is None or judged.margin is None:
        return metric_label(judged.metric)
    margin = show_margin(judged.change, judged.margin)
    return f"{metric_label(judged.metric)} {show_change(judged.change).full}, margin {margin}"


def _state_in_words(judged: MetricVerdict) -> str:
    if judged.state != "same":
        return judged.state
    return "near calibrated" if judged.reason == NEAR_CALIBRATED else "same within margin"


def _images_wanted(judged: MetricVerdict) -> str:
    """Return the number of images with two significant digits."""
    wanted = judged.images_wanted or 0
    return f"{round(wanted, 2 - len(str(wanted))):,}"


def _more(judged: Sequence[MetricVerdict], after: str = ";") -> str:
    return f"{after} and {len(judged) - _NAMED} more" if len(judged) > _NAMED else ""
