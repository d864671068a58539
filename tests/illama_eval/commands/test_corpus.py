"""`report --corpus`: what it writes, and whether the committed corpus is what it would write."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from illama_eval.commands.corpus import report_corpus
from illama_eval.results import Run

COMMITTED = Path(__file__).resolve().parents[3] / "reports" / "corpus"


def test_runs_are_added_to_a_corpus_and_its_table_is_written(command, write_run, tmp_path):
    write_run(tmp_path / "good", accuracy=0.9, subject="good")
    write_run(tmp_path / "worse", accuracy=0.6, seed=1, subject="worse")
    (tmp_path / "corpus").mkdir()
    listed = tmp_path / "corpus" / "list.toml"
    listed.write_text('references = ["good"]\n')
    code, _, err = command("report", "good", "worse", "--corpus", "corpus/list.toml")
    assert (code, err) == (0, "written to corpus/corpus.html\n")
    first, second = csv.DictReader((tmp_path / "corpus" / "corpus.csv").read_text().splitlines())
    assert (first["model"], first["reference"], second["reference"]) == ("good", "", "good")
    assert float(second["accuracy.top1.change"]) < 0
    assert not first["accuracy.top1.change"]
    page = (tmp_path / "corpus" / "corpus.html").read_text("utf-8")
    assert page.count("worse</small>") >= 1
    assert "illama-eval report --corpus list.toml" in page
    tables = (tmp_path / "corpus" / "corpus.tex").read_text("utf-8")
    assert all(f"tab:corpus-{study}" in tables for study in ("accuracy", "calibration", "rank"))
    before = {path: path.read_bytes() for path in (tmp_path / "corpus").iterdir()}
    assert command("report", "--corpus", "corpus/list.toml")[0] == 0
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--corpus", "gone.toml"), 3, "gone.toml: cannot be read"),
        (("gone", "--corpus", "list.toml"), 3, "gone/run.json: cannot be read"),
        (("--corpus", "list.toml", "--figures"), 2, "takes RUN and --out alone"),
    ],
)
def test_what_is_not_there_or_does_not_fit_is_refused_in_one_line(
    command, tmp_path, words, code, said
):
    (tmp_path / "list.toml").write_text("")
    found, _, err = command("report", *words)
    assert found == code
    assert said in err


def cells_of(page):
    """Return the text of the table of models: a page's style may change without its numbers."""
    table = page.read_text("utf-8").partition('<table id="models"')[2].partition("</table>")[0]
    return re.sub(r"<[^>]*>", "|", table)


def test_no_cell_of_the_committed_corpus_has_drifted_from_its_headlines(tmp_path):
    page, *tables = report_corpus(COMMITTED / "corpus.toml", out=tmp_path)
    assert cells_of(page) == cells_of(COMMITTED / page.name)
    assert cells_of(page).count("|") > 1000
    for path in tables:
        assert path.read_bytes() == (COMMITTED / path.name).read_bytes(), path.name


def test_the_committed_corpus_has_models_and_numbers_enough():
    with (COMMITTED / "corpus.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) >= 12
    assert len([name for name in rows[0] if name.endswith("change.low")]) >= 15
    compared = [row for row in rows if row["rank.rank_per_image.change.low"]]
    assert len(compared) >= 3


def test_rows_of_the_real_models_have_the_answers_that_are_known_of_them():
    lite = Run.load(COMMITTED / "efficientnet-lite0.json")
    assert lite.value("accuracy", "top1").value == pytest.approx(0.89, abs=1e-9)
    assert lite.value("calibration", "ece").value == pytest.approx(0.1459, abs=2e-4)
    cues = Run.load(COMMITTED / "efficientnet-lite0-cues.json")
    assert cues.value("shape_bias", "shape_bias").value == pytest.approx(0.215836, abs=3e-3)
    vit = Run.load(COMMITTED / "vit-s14-224.json")
    used, masked = (vit.value("rank", "rank_of_mean_map", **at) for at in ({}, {"map": "masked"}))
    assert masked.low > used.high


@pytest.mark.slow
def test_the_corpus_row_of_the_demo_is_what_the_demo_gives(command, undrawn, tmp_path):
    assert command("run", "--only", "accuracy,calibration,rank", "--out", "demo")[0] == 0
    committed, measured = Run.load(COMMITTED / "demo.json"), Run.load(tmp_path / "demo")
    found = {(row.study, row.metric, *row.at.items()): row for row in measured.rows}
    kept = [row for row in committed.rows if row.study in {"accuracy", "calibration", "rank"}]
    assert len(kept) > 8
    for row in kept:
        again = found[row.study, row.metric, *row.at.items()]
        for name in ("value", "low", "high"):
            expected = getattr(row, name)
            wanted = expected if expected is None else pytest.approx(expected, rel=1e-6, abs=1e-9)
            assert getattr(again, name) == wanted, (row.study, row.metric, name)
