"""The gate's result as a GitHub step summary in Markdown: changed metrics, the others folded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from illama_eval.compare.comparison import Comparison
from illama_eval.compare.gate import GateResult, MetricVerdict
from illama_eval.render.format.changes import show_change, show_margin
from illama_eval.render.format.escape import markdown_cell, sanitize
from illama_eval.render.format.glossary import metric_label, study_label
from illama_eval.render.format.numbers import MISSING
from illama_eval.render.gate.words import by_outcome, notes_on, remark, sentence, state_label
from illama_eval.results import ResultError

LARGEST = 60_000
"""Bytes of one summary: a step's may have 1 MiB, a check's 64 KiB."""

_HEAD = (
    "verdict",
    "study",
    "metric",
    "baseline",
    "here",
    "change",
    "95 % interval",
    "margin",
    "p (Holm)",
    "images",
    "remark",
)
_RULE = (":---", ":---", ":---", "---:", "---:", "---:", ":---", "---:", "---:", "---:", ":---")
_LONGEST = 200
_FOLD = "<details><summary>{rows} more: same, or not gated</summary>\n\n{table}\n\n</details>"
_SPARE = 600
"""Bytes kept free for the heads of tables and a note on what was cut."""
_FOLDED = {"same", "not gated"}


def to_summary(result: GateResult, largest: int = LARGEST) -> str:
    """Return the result as Markdown of at most `largest` bytes, cut between rows."""
    paths = (markdown_cell(sanitize(path, _LONGEST)) for path in (result.run, result.baseline))
    blocks = [f"### {markdown_cell(sentence(result))}", " against ".join(paths)]
    left = largest - _SPARE - sum(len(block.encode()) + 2 for block in blocks)
    for number, comparison in enumerate(result.comparisons):
        part = _of_subject(result, comparison, left)
        left -= len(part.encode()) + 2
        if left < 0:
            blocks.append(f"{len(result.comparisons) - number} subjects more")
            break
        blocks.append(part)
    return "\n\n".join(filter(None, blocks)) + "\n"


def append_summary(result: GateResult, path: Path) -> None:
    """Append the summary to a file, as $GITHUB_STEP_SUMMARY needs it.

    Raises:
        ResultError: the file cannot be written.
    """
    if path.is_dir():
        raise ResultError(f"--summary {path}: a folder; name a file (is GITHUB_STEP_SUMMARY set?)")
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write("\n" * (stream.tell() > 0) + to_summary(result))
    except OSError as problem:
        raise ResultError(f"{path}: cannot be written ({problem.strerror})") from problem


def _of_subject(result: GateResult, comparison: Comparison, largest: int) -> str:
    """Return changed metrics, the others and notes of one subject, within `largest` bytes."""
    mine = by_outcome([e for e in result.judged if e.subject == comparison.subjects[1]])
    changed = [each for each in mine if each.state not in _FOLDED]
    folded = [each for each in mine if each.state in _FOLDED]
    notes = notes_on(comparison, [each for each in mine if each.outcome != "info"])
    closing = "\n".join(f"- {markdown_cell(sanitize(note, 3 * _LONGEST))}" for note in notes)
    title = f"#### {markdown_cell(sanitize(comparison.subjects[1], _LONGEST))}"
    left = largest - len((title + closing + _FOLD).encode()) - _SPARE
    upper = "\n".join(_table(changed, left)) if changed else ""
    lower = "\n".join(_table(folded, left - len(upper.encode()))) if folded else ""
    details = _FOLD.format(rows=len(folded), table=lower) if folded else ""
    return "\n\n".join(filter(None, [title, upper, details, closing]))


def _table(judged: Sequence[MetricVerdict], largest: int) -> Iterator[str]:
    """Yield the lines of a table, as many rows as fit, and how many did not."""
    for line in (_HEAD, _RULE):
        yield (text := _line(line))
        largest -= len(text.encode()) + 1
    for number, each in enumerate(judged):
        text = _line(map(markdown_cell, _cells(each)))
        largest -= len(text.encode()) + 1
        if largest < 0:
            yield _line(
                [
                    "\N{HORIZONTAL ELLIPSIS}",
                    f"{len(judged) - number} rows more",
                    *[""] * (len(_HEAD) - 2),
                ]
            )
            return
        yield text


def _cells(judged: MetricVerdict) -> list[str]:
    named = [state_label(judged), study_label(judged.study), metric_label(judged.metric)]
    change = judged.change
    if change is None:
        return [*named, *[MISSING] * 6, "", remark(judged)]
    shown = show_change(change)
    margin = MISSING if judged.margin is None else show_margin(change, judged.margin)
    return [
        *named[:2],
        shown.name,
        shown.baseline,
        shown.candidate,
        shown.difference,
        shown.interval,
        margin,
        shown.p,
        f"{change.images:,}",
        sanitize(remark(judged), _LONGEST),
    ]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
