"""The table of a quantization: one line per quantized model, after the exact model."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from illama_eval.compare.comparison import Comparison, compare
from illama_eval.compare.subject_run import read_subject_runs
from illama_eval.render.format.changes import show_change
from illama_eval.render.format.escape import csv_cell, sanitize
from illama_eval.render.format.numbers import MISSING, show_images, show_row
from illama_eval.render.select import headline
from illama_eval.render.tables.text import TableGroup, TextTable, to_latex, to_markdown
from illama_eval.results import Row, Run

STEM = "quantization"
"""Stem of the files in tables/."""
STUDY = {
    "top1": "accuracy",
    "top5": "accuracy",
    "ece": "calibration",
    "flips": "agreement",
    "kl": "agreement",
    "logit_sqnr": "agreement",
    "feature_sqnr": "feature_agreement",
}
"""Metric that the table shows -> its study."""
AGREEING = {"agreement", "feature_agreement"}
"""Studies that have no number of the exact model."""
SHOWN = ("top5", "ece", "flips", "kl")
"""Metrics between top-1 and SQNR, in the order of the columns."""
COLUMNS = (
    "model",
    "MB",
    "of fp32",
    "top-1 %",
    "change pp (paired 95 %)",
    "p",
    "top-5 %",
    "ECE %",
    "flips %",
    "KL nats",
    "SQNR dB",
    "arithmetic",
)
MB = 1e6
"""Bytes of a megabyte."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One quantized model of a run, compared with the exact one."""

    name: str
    described: Mapping[str, Any]
    """The header's record of its quantization."""
    rows: Mapping[str, Row | None]
    """By metric of STUDY."""
    compared: Comparison

    def p_of(self, metric: str) -> float | None:
        """Return the p of a change, not adjusted: McNemar's for accuracy."""
        found = [each for each in self.compared.changes if each.metric == metric and not each.at]
        return found[0].p if found else None


def variants_of(directory: Path, run: Run) -> list[Variant]:
    """Return the quantized models of a run that has the exact one first."""
    described = run.header.get("subjects")
    if not isinstance(described, list) or not any("quantization" in each for each in described):
        return []
    records = {each["name"]: each["quantization"] for each in described if "quantization" in each}
    found = read_subject_runs(directory)
    others = [each for each in found if each.subject in records]
    if not others:
        return []
    exact = (each for each in found if each.subject not in records)
    nothing = replace(others[0].without_rows(), subject=described[0]["name"])
    first = next(exact, nothing)  # a network without a head may have no number of its own
    return [
        Variant(
            name=other.subject,
            described=records[other.subject],
            rows={name: headline(run, study, name, other.subject) for name, study in STUDY.items()},
            compared=compare([first], [other]),
        )
        for other in others
    ]


def write_quantization(directory: Path, run: Run, out: Path) -> list[Path]:
    """Write quantization.csv, .md and .tex into `out` if the run has quantized models."""
    variants = variants_of(directory, run)
    if not variants:
        return []
    table = TextTable(
        title=caption(variants),
        head=COLUMNS,
        right=frozenset(range(1, len(COLUMNS) - 1)),
        lines=[exact_line(run, variants), *map(quantized_line, variants)],
    )
    groups = [TableGroup(title="Quantization", tables=[table])]
    texts = {".csv": to_csv(variants), ".md": to_markdown(groups), ".tex": to_latex(groups)}
    paths = []
    for suffix, text in texts.items():
        path = out / f"{STEM}{suffix}"
        path.write_text(text, encoding="utf-8", newline="")
        paths.append(path)
    return paths


def to_csv(variants: Sequence[Variant]) -> str:
    """Return one line per quantized model: every byte, and every number with its interval."""
    lines = []
    for each in variants:
        settings = (
            "scheme",
            "group_size",
            "asymmetric",
            "rounding",
            "smooth",
            "simulated",
            "share",
        )
        line: dict[str, object] = {"subject": each.name}
        line |= {name: each.described.get(name) for name in settings}
        line |= {f"bytes_{part}": count for part, count in each.described["bytes"].items()}
        for change in each.compared.changes:
            if change.metric in STUDY and not change.at:
                ends = {
                    "before": change.baseline,
                    "after": change.candidate,
                    "low": change.low,
                    "high": change.high,
                    "p": change.p,
                }
                line |= {f"{change.metric}_{name}": end for name, end in ends.items()}
        lines.append({name: csv_cell(cell) for name, cell in line.items()})
    text = io.StringIO()
    names = dict.fromkeys(name for line in lines for name in line)
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def caption(variants: Sequence[Variant]) -> str:
    """Return the table's caption: how the models were quantized, and the images measured on."""
    images = show_images(variants[0].compared.images)
    return f"{variants[0].described['label']}. {images}; p: McNemar, not adjusted"


def exact_line(run: Run, variants: Sequence[Variant]) -> list[str]:
    """Return the line of the exact model, which all others were made from."""
    first = variants[0]
    name = first.compared.subjects[0]
    full = max(each.described["bytes"]["full_precision"] for each in variants)
    before = [headline(run, STUDY[metric], metric, name) for metric in ("top1", "top5", "ece")]
    top1, top5, ece = (MISSING if row is None else show_row(row).value for row in before)
    return [
        sanitize(name),
        f"{full / MB:.3f}",
        "1",
        top1,
        MISSING,
        MISSING,
        top5,
        ece,
        MISSING,
        MISSING,
        MISSING,
        "float",
    ]


def quantized_line(variant: Variant) -> list[str]:
    """Return the line of one quantized model."""
    size = variant.described["bytes"]
    shown = {
        name: MISSING if row is None else show_row(row).value for name, row in variant.rows.items()
    }
    changes = {c.metric: c for c in variant.compared.changes if not c.at}
    drop = show_change(changes["top1"]) if "top1" in changes else None
    p = variant.p_of("top1")
    return [
        sanitize(variant.name),
        f"{size['total'] / MB:.3f}",
        f"{size['total'] / size['full_precision']:.3f}",
        shown["top1"],
        MISSING if drop is None else f"{drop.difference} ({drop.interval})",
        MISSING if p is None else f"{p:.2g}",
        *(shown[name] for name in SHOWN),
        shown["feature_sqnr" if shown["logit_sqnr"] == MISSING else "logit_sqnr"],
        "simulated" if variant.described["simulated"] else "integer or float8",
    ]
