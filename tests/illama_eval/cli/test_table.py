"""`illama-eval table` from the command line."""

from __future__ import annotations

from dataclasses import replace

from illama_eval.results import Run


def test_a_table_is_printed_or_written(command, write_run, tmp_path):
    write_run(tmp_path / "a", subject="a")
    write_run(tmp_path / "b", subject="b", accuracy=0.6, seed=1)
    code, out, _ = command("table", "a", "b", "--columns", "top1,ece", "--names", "a=Mine")
    assert code == 0
    assert "| Mine |" in out
    given = ("table", "a", "b", "--columns", "top1", "--format", "latex", "--out", "t.tex")
    assert command(*given)[:2] == (0, "")
    assert "\\toprule" in (tmp_path / "t.tex").read_text(encoding="utf-8")


def test_the_usual_columns_are_those_that_were_measured(command, write_run, tmp_path):
    path = write_run(tmp_path / "a", subject="a") / "run.json"
    run = Run.load(path)
    rows = tuple(row for row in run.rows if row.study == "accuracy")
    path.write_text(replace(run, rows=rows).to_json(), encoding="utf-8")
    code, out, _ = command("table", "a", "--format", "csv")
    assert code == 0
    assert out.splitlines()[0].endswith("accuracy.top1.high")
    assert "calibration" not in out


def test_bad_names_columns_and_paths_are_refused_in_one_line(command, write_run, tmp_path):
    write_run(tmp_path / "a")
    assert command("table", "a", "--columns", "top1", "--names", "a")[0] == 2
    for words in (("a", "--columns", "nothing"), ("missing",)):
        code, out, err = command("table", *words)
        assert (code, out, len(err.splitlines())) == (3, "", 1)
