"""`illama-eval export` from the command line."""

from __future__ import annotations

import sys


def test_bad_runs_and_missing_trackers_are_refused_in_one_line(
    command, write_run, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    write_run(tmp_path / "a")
    for words in (("a", "--to", "wandb"), ("missing", "--to", "mlflow")):
        code, out, err = command("export", *words)
        assert (code, out, len(err.splitlines())) == (3, "", 1)
    assert command("export", "a")[0] == 2
