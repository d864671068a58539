"""The files of a run are bound to its run.json."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from illama_eval.digests import bind, check_parts, parts_of
from illama_eval.results import ResultError, Run


@pytest.fixture
def pair(write_run, tmp_path):
    return write_run(tmp_path / "a"), write_run(tmp_path / "b", accuracy=0.7, seed=1)


def test_a_run_as_it_was_written_is_of_one_piece(pair):
    run = Run.load(pair[0])
    check_parts(run, pair[0])
    assert bind(run, pair[0]) == run
    assert set(run.files) == {"replicates", "per_image"}


@pytest.mark.parametrize("name", ["replicates.npz", "per_image.npz"])
def test_a_file_of_another_run_is_refused(pair, name):
    shutil.copy(pair[1] / name, pair[0] / name)
    with pytest.raises(ResultError, match=rf"a[/\\]run\.json: {name} beside it is not the one"):
        check_parts(Run.load(pair[0]), pair[0])


def test_a_file_that_run_json_does_not_name_is_refused(pair):
    run = bind(Run.load(pair[0]), pair[0] / "nothing")
    assert run.files == {}
    with pytest.raises(ResultError, match="not the one that was written with it"):
        check_parts(run, pair[0])


def test_a_missing_file_is_no_fault(pair):
    (pair[0] / "per_image.npz").unlink()
    check_parts(Run.load(pair[0]), pair[0])


def test_replicates_and_records_of_a_baseline_are_one_file(tmp_path):
    np.savez(tmp_path / "main.npz", names=np.array(["x"]))
    files = bind(Run(header={}, rows=()), tmp_path / "main.json").files
    assert files["replicates"] == files["per_image"]
    assert set(parts_of(tmp_path / "main.json").values()) == {tmp_path / "main.npz"}
