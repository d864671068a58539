"""The gate's result as JUnit XML: a test case for each gated metric."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from illama_eval.compare.gate import GateResult, MetricVerdict
from illama_eval.render.format.changes import show_change, show_margin
from illama_eval.render.format.escape import sanitize
from illama_eval.render.gate.words import remark, sentence, state_label
from illama_eval.results import ResultError

_KINDS = {"fail": "failure", "error": "error", "warn": "skipped"}
_LONGEST = 500


def to_junit(result: GateResult) -> str:
    """Return the result as JUnit XML.

    A regression is a failure, what could not be judged an error, a warning (inconclusive, or a loss
    that the policy does not fail) is skipped. A problem with the baseline is a case of its own.
    """
    gated = [each for each in result.judged if each.outcome != "info"]
    cases = [_case(each) for each in gated]
    if result.problem:
        case = ET.Element("testcase", classname="gate", name="baseline")
        ET.SubElement(case, "error", message=sanitize(result.problem, _LONGEST))
        cases.insert(0, case)
    counts = {
        kind: str(sum(case.find(kind) is not None for case in cases)) for kind in _KINDS.values()
    }
    suite = ET.Element(
        "testsuite",
        name="illama-eval gate",
        tests=str(len(cases)),
        failures=counts["failure"],
        errors=counts["error"],
        skipped=counts["skipped"],
    )
    properties = ET.SubElement(suite, "properties")
    facts = {
        "verdict": sentence(result),
        "exit_code": str(result.exit_code),
        "run": result.run,
        "baseline": result.baseline,
    }
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=name, value=sanitize(value, _LONGEST))
    suite.extend(cases)
    ET.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, "unicode") + "\n"


def write_junit(result: GateResult, path: Path) -> None:
    """Write the result as JUnit XML.

    Raises:
        ResultError: the file cannot be written.
    """
    try:
        path.write_text(to_junit(result), encoding="utf-8")
    except OSError as problem:
        raise ResultError(f"{path}: cannot be written ({problem.strerror})") from problem


def _case(judged: MetricVerdict) -> ET.Element:
    """Return the test case of one metric, its numbers as properties."""
    case = ET.Element(
        "testcase",
        classname=sanitize(judged.subject, _LONGEST),
        name=sanitize(judged.name, _LONGEST),
    )
    message = state_label(judged)
    if judged.change:
        shown = show_change(judged.change)
        facts = {
            "baseline": shown.baseline,
            "candidate": shown.candidate,
            "difference": shown.full,
            "images": str(judged.change.images),
        }
        if judged.margin is not None:
            facts["margin"] = show_margin(judged.change, judged.margin)
            message = f"{message}: {shown.full}, margin {facts['margin']}"
        properties = ET.SubElement(case, "properties")
        for name, value in facts.items():
            ET.SubElement(properties, "property", name=name, value=value)
    message = sanitize("; ".join(filter(None, (message, remark(judged)))), _LONGEST)
    kind = _KINDS.get(judged.outcome)
    if kind:
        ET.SubElement(case, kind, message=message)
    else:
        ET.SubElement(case, "system-out").text = message
    return case
