"""The few lines of a finished run: one number once, the rank beside its control, a sentence."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from msgspec import structs
from rich.console import Console

from illama_eval.render.format.verdicts import MARK
from illama_eval.render.terminal.summary import show_summary
from illama_eval.results import Run, Verdict

REPORTS = Path(__file__).parents[4] / "reports" / "examples"


def lines_of(run: Run, width: int = 80) -> list[str]:
    stream = StringIO()
    show_summary(run, Console(file=stream, width=width, highlight=False))
    return stream.getvalue().rstrip().splitlines()


@pytest.fixture(scope="module")
def demo() -> Run:
    return Run.load(REPORTS / "demo", replicates=False)


def test_a_run_of_everything_is_shown_in_at_most_ten_lines(demo):
    lines = lines_of(demo)
    assert len(lines) <= 10
    assert "2,000 images" in lines[0]
    text = "\n".join(lines)
    for once in ("top-1 accuracy", "ECE", "rank of mean map"):
        assert text.count(once) == 1


def test_the_rank_is_beside_its_controls(demo):
    lines = lines_of(demo)
    place = next(n for n, line in enumerate(lines) if "rank of mean map" in line)
    assert "control: softmax" in lines[place + 1]


def test_what_deserves_a_look_is_marked_and_first(demo):
    lines = lines_of(demo)
    marked = [line for line in lines if line.startswith(MARK)]
    assert [line.rstrip() for line in marked] == [f"{MARK} It is under-confident."]
    rest = " ".join(" ".join(lines[lines.index(marked[0]) + 1 :]).split())
    assert rest.startswith("No collapse is seen; the class token sees the image. It is not ")
    assert re.search(r"change the earlier ones by up to [\d.]+ % \([\d.]+ to [\d.]+\)\.$", rest)


def test_what_is_by_design_is_no_alarm(demo):
    assert any(each.verdict == "below one by design" for each in demo.verdicts)
    assert "rows" not in "\n".join(lines_of(demo))


@pytest.mark.parametrize("width", [50, 80])
def test_names_are_wrapped_and_never_cut(demo, width):
    words = " ".join(lines_of(demo, width))
    for name in ("top-1", "accuracy", "rank", "mean", "map"):
        assert name in words
    assert "\N{HORIZONTAL ELLIPSIS}" not in words


def test_a_run_of_one_study_shows_all_of_its_headline_numbers(demo):
    rows = tuple(row for row in demo.rows if row.study == "accuracy")
    text = "\n".join(lines_of(Run(header=demo.header, rows=rows)))
    assert "top-5 accuracy" in text
    assert "NLL" in text


def test_what_is_named_by_others_is_never_markup_or_a_control_sequence(demo):
    rows = tuple(row for row in demo.rows if row.study == "accuracy")
    hostile = "[red]\x1b[2J"
    verdict = Verdict(
        subject=hostile, study="calibration", name="calibration", verdict=hostile, reason=""
    )
    run = Run(header=demo.header, rows=rows, verdicts=(verdict,)).renamed(
        {rows[0].subject: hostile}
    )
    text = "\n".join(lines_of(run))
    assert "[red]" in text
    assert "\x1b" not in text


def test_a_study_that_one_subject_lacks_is_a_dash_in_its_row(demo):
    rows = [row for row in demo.rows if not row.at]
    other = [structs.replace(row, subject="other") for row in rows if row.study != "rank"]
    text = lines_of(Run(header=demo.header, rows=(*rows, *other)), 120)
    assert next(line for line in text if line.startswith("other")).rstrip().endswith("\N{EM DASH}")


def test_the_images_are_those_that_were_measured_not_those_learnt_from(demo):
    first = next(row for row in demo.rows if not row.at)
    counted = structs.replace(first, metric="training_images", unit="images", images=9_999)
    text = lines_of(Run(header=demo.header, rows=(first, counted)))
    assert text[0].endswith(": 2,000 images")
