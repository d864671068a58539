"""`report --corpus`: what it writes."""

from __future__ import annotations

import csv

import pytest


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
