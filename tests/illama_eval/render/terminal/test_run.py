import csv
import io

from rich.console import Console

from illama_eval.render.tables.csv import to_csv
from illama_eval.render.terminal.run import show
from illama_eval.results import Row, Run

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
      The class token sees the image. reach 0.9 is above 1e-6
"""


def lines_of(text):
    return [line.rstrip() for line in text.splitlines()]


def test_the_headline_reads_like_this_at_80_columns(printed, run_of):
    assert lines_of(printed(show, run_of()))[:-1] == HEADLINE.splitlines()


def test_a_terminal_of_60_columns_loses_no_number(printed, run_of):
    text = printed(show, run_of(), width=60)
    assert all(len(line) <= 60 for line in lines_of(text))
    for number in ("77.34", "76.53", "78.15", "0.542", "10,000"):
        assert number in text


def test_a_terminal_of_50_columns_keeps_names_and_numbers(printed, run_of):
    text = printed(show, run_of(), width=50)
    assert all(len(line) <= 50 for line in lines_of(text))
    for kept in ("top-1 accuracy", "76.53  to 78.15", "0.542 to 0.678", "rank of mean"):
        assert kept in text
    assert "images" not in text.splitlines()[1]


def test_each_subject_has_its_own_table(printed, run_of):
    text = printed(show, run_of(subjects=("causal", "twin")))
    assert text.index("causal on cifar10/test") < text.index("twin on cifar10/test")


def test_an_output_that_knows_ascii_only_gets_ascii(run_of):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show(run_of(), Console(file=stream, width=80))
    stream.flush()
    text = stream.buffer.getvalue().decode("ascii")
    assert "top-1 accuracy ^" in text
    assert "The class token sees the image" in text


def test_hostile_names_stay_text_in_the_terminal(printed, hostile_run, hostile_names):
    text = printed(show, hostile_run(hostile_names), force_terminal=True, color_system=None)
    assert not any(ord(letter) < 32 and letter != "\n" for letter in text.replace("\x1b[", ""))
    assert not any(0x7F <= ord(letter) < 0xA0 for letter in text)
    assert "[/red]" in text
    assert "\u202e" not in text


def test_an_undefined_value_is_a_dash_with_its_reason(printed):
    row = Row(
        subject="s", study="accuracy", metric="top1", value=None, images=0, reason="no labels"
    )
    run = Run(header={}, rows=(row,))
    assert "\N{EM DASH}" in printed(show, run)
    assert "(1) no labels" in printed(show, run)
    assert next(csv.DictReader(io.StringIO(to_csv([row]))))["value"] == ""
