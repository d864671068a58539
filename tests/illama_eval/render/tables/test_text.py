"""Tables: what a reader sees, and names that try to break out of them."""

import csv
import io

import pytest
from rich.console import Console

from illama_eval.render import render_directory
from illama_eval.render.format.escape import csv_cell, sanitize
from illama_eval.render.format.numbers import align, show_number, show_row
from illama_eval.render.tables.csv import to_csv, write_tables
from illama_eval.render.tables.text import table_groups, to_markdown
from illama_eval.render.terminal.run import show
from illama_eval.results import ResultError, Row, Run

HEADLINE = """\
nano on cifar10/test
metric                value  unit    95 % interval     images
─────────────────────────────────────────────────────────────
accuracy
  top-1 accuracy ↑    77.34  %       76.53  to 78.15   10,000
  top-5 accuracy      98.12  %       97.31  to 98.93   10,000
  NLL ↓               0.707  nats     0.686 to 0.728   10,000
  non-finite logits       0  images  — (1)             10,000
calibration
  ECE                  4.11  %        3.65  to 4.57    10,000
  ECE, scaled          1.23  %        1.09  to 1.37    10,000
  ECE floor           0.610  %        0.542 to 0.678   10,000
  mean confidence      81.4  %       72.4   to 90.4    10,000
  Brier score          31.9  %       28.3   to 35.4    10,000
  AURC                 7.31  %        6.50  to 8.12    10,000
  temperature         1.234  ratio   — (1)             10,000
rank
  rank of mean map      8.5  index    7.0   to 10.0    10,000
  rank per image        7.7  index    6.2   to 9.2     10,000
  (1) one value for all images: no replicates
  ▸   class token: attends. reach 0.9 is above 1e-6
"""


def printed(run, width=80, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    show(run, console)
    return console.file.getvalue()


def lines_of(text):
    return [line.rstrip() for line in text.splitlines()]


def test_the_headline_reads_like_this_at_80_columns(run_of):
    assert lines_of(printed(run_of()))[:-1] == HEADLINE.splitlines()


def test_a_terminal_of_60_columns_loses_no_number(run_of):
    text = printed(run_of(), width=60)
    assert all(len(line) <= 60 for line in lines_of(text))
    for number in ("77.34", "76.53", "78.15", "0.542", "10,000"):
        assert number in text


def test_each_subject_has_its_own_table(run_of):
    text = printed(run_of(subjects=("causal", "twin")))
    assert text.index("causal on cifar10/test") < text.index("twin on cifar10/test")


def test_an_output_that_knows_ascii_only_gets_ascii(run_of):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show(run_of(), Console(file=stream, width=80))
    stream.flush()
    text = stream.buffer.getvalue().decode("ascii")
    assert "top-1 accuracy ^" in text
    assert "class token: attends" in text


@pytest.mark.parametrize(
    ("value", "half_width", "text"),
    [
        (74.4137, 0.41, "74.41"),
        (74.4137, 4.1, "74.4"),
        (129.4, 12.0, "129"),
        (-0.0123, 0.004, "\N{MINUS SIGN}0.0123"),
        (-0.00001, 0.5, "\N{MINUS SIGN}1.0e\N{MINUS SIGN}5"),
        (-0.001, 0.5, "0.00"),
        (0.0, 0.0, "0"),
        (1.0, 0.0, "1.000"),
        (3.14e-8, 0.0, "3.1e\N{MINUS SIGN}8"),
        (1234567.0, 0.0, "1,234,567"),
        (float("inf"), 0.0, "\N{EM DASH}"),
    ],
)
def test_digits_follow_the_interval(value, half_width, text):
    assert show_number(value, half_width) == text


def test_a_count_has_no_decimals_and_a_share_of_one_keeps_them():
    count = Row(metric="nonfinite", value=3.0, unit="images", images=5)
    share = Row(metric="top1", value=1.0, low=1.0, high=1.0, images=5)
    assert show_row(count).full == "3 images"
    assert show_row(share).full == "100.0 % (100.0 to 100.0)"


def test_an_undefined_value_is_a_dash_with_its_reason():
    row = Row(
        subject="s", study="accuracy", metric="top1", value=None, images=0, reason="no labels"
    )
    run = Run(header={}, rows=(row,))
    assert "\N{EM DASH}" in printed(run)
    assert "(1) no labels" in printed(run)
    assert next(csv.DictReader(io.StringIO(to_csv([row]))))["value"] == ""


def test_decimal_points_stand_below_each_other():
    assert align(["77.34", "0.5", "8", ""]) == ["77.34", "0.5 ", "8   ", ""]


def test_csv_holds_fractions_with_all_digits_and_a_column_per_place(run_of):
    run = run_of()
    read = list(csv.DictReader(io.StringIO(to_csv(run.rows))))
    assert len(read) == len(run.rows)
    for row, cells in zip(run.rows, read, strict=True):
        assert float(cells["value"]) == row.value
        assert {key: cells[key] for key in row.at} == {k: str(v) for k, v in row.at.items()}


def hostile_run(run_of, names):
    run = run_of(subjects=names[:2], source=names[2])
    rows = [
        Row(
            subject=name,
            source=name,
            study="accuracy",
            metric=name,
            value=-0.5,
            unit=name,
            images=1,
            at=at,
            reason=name,
        )
        for name in names
        for at in ({}, {"class": name, name: 1})
    ]
    return Run(header={}, rows=(*run.rows, *rows), curves=run.curves, verdicts=run.verdicts)


def test_hostile_names_stay_text_in_the_terminal(run_of, hostile_names):
    text = printed(hostile_run(run_of, hostile_names), force_terminal=True, color_system=None)
    assert not any(ord(letter) < 32 and letter != "\n" for letter in text.replace("\x1b[", ""))
    assert not any(0x7F <= ord(letter) < 0xA0 for letter in text)
    assert "[/red]" in text
    assert "\u202e" not in text


def test_hostile_names_stay_cells_in_csv(run_of, hostile_names):
    rows = [row for row in hostile_run(run_of, hostile_names).rows if not row.images > 1]
    text = to_csv(rows)
    text.encode("utf-8")
    read = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert len(read) == 2 * len(hostile_names)
    for cells, name in zip(read[::2], hostile_names, strict=True):
        assert cells["subject"].removeprefix("'") == sanitize(name)
        assert cells["subject"][0] not in "=+-@"
        assert float(cells["value"]) == -0.5


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t="])
def test_no_cell_begins_a_formula(start):
    assert csv_cell(f"{start}1+1").startswith("'")


def test_hostile_names_neither_break_nor_mark_up_a_markdown_row(run_of, hostile_names):
    run = hostile_run(run_of, hostile_names)
    text = to_markdown(table_groups(run, run.rows))
    text.encode("utf-8")
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if lines[0].startswith("|"):
            widths = {cells(line) for line in lines}
            assert len(widths) == 1, lines
    assert not any(mark in unescaped(text) for mark in ("<", ">", "`", "]", "$"))


def cells(line):
    return unescaped(line).count("|")


def unescaped(text):
    """Return the text without its backslash escapes."""
    kept, letters = [], iter(text)
    for letter in letters:
        if letter == "\\":
            next(letters)
        else:
            kept.append(letter)
    return "".join(kept)


def test_every_study_has_a_table_in_both_forms(run_of, tmp_path):
    paths = write_tables(run_of(), tmp_path / "tables")
    stems = {"headline", "accuracy", "calibration", "rank", "collapse"}
    assert {path.name for path in paths} == {s + e for s in stems for e in (".csv", ".md", ".tex")}
    assert "| layer | head 1 | head 2 | head 3 |" in (tmp_path / "tables/rank.md").read_text()


def test_study_names_cannot_leave_the_directory(tmp_path):
    rows = [
        Row(subject="s", study=study, metric="m", value=1.0, images=1)
        for study in ("../../x", "x", "headline", "", "CON/\x00")
    ]
    paths = write_tables(Run(header={}, rows=tuple(rows)), tmp_path / "tables")
    assert len(set(paths)) == len(paths) == 18
    assert {path.parent for path in paths} == {tmp_path / "tables"}


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(ResultError, match=r"run\.json"):
        render_directory(tmp_path)
