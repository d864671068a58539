"""Replicates beside a run: none lost, none read in vain, no damaged one believed."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import structs

from illama_eval.results import ResultError, Run, replicate_table


def test_replicates_come_back_to_their_rows(tmp_path, make_run):
    values = np.random.default_rng(0).normal(size=200)
    first, second = make_run().rows
    with_replicates = structs.replace(first, replicates=values)
    run = make_run(rows=(with_replicates, second))
    (tmp_path / "run.json").write_text(run.to_json(), encoding="utf-8")
    assert Run.load(tmp_path).rows[0].replicates is None
    np.savez(tmp_path / "replicates.npz", **replicate_table(run.rows))
    loaded = Run.load(tmp_path)
    assert loaded == run
    assert np.array_equal(loaded.rows[0].replicates, values)
    assert loaded.rows[1].replicates is None


def test_the_table_of_no_replicates_is_empty(tmp_path, make_run):
    table = replicate_table(make_run().rows)
    assert len(table["names"]) == len(table["replicates"]) == 0
    np.savez(tmp_path / "replicates.npz", **table)
    (tmp_path / "run.json").write_text(make_run().to_json(), encoding="utf-8")
    assert Run.load(tmp_path) == make_run()


def test_the_headline_alone_is_read_with_its_replicates(tmp_path, stored_run):
    run = stored_run(tmp_path)
    names = replicate_table(run.rows)["names"].tolist()
    assert [name.endswith("[]") for name in names] == [True, True, False, False]
    loaded = Run.load(tmp_path, headline=True)
    assert loaded.rows == (run.rows[1], run.rows[3])
    assert loaded.curves == ()
    for mine, theirs in zip(loaded.rows, (run.rows[1], run.rows[3]), strict=True):
        assert np.array_equal(mine.replicates, theirs.replicates)


@pytest.mark.parametrize("headline", [True, False])
@pytest.mark.parametrize("kept", [0, 0.4, 0.9])
def test_replicates_cut_off_are_refused(tmp_path, kept, headline, stored_run):
    stored_run(tmp_path)
    path = tmp_path / "replicates.npz"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ResultError, match=r"run\.json: replicates\.npz beside it is damaged"):
        Run.load(tmp_path, headline=headline)


@pytest.mark.parametrize(
    "arrays",
    [
        {"names": np.array(["a"])},
        {"names": np.array(["a", "b"]), "replicates": np.zeros((1, 200))},
        {"names": np.array(["a"]), "replicates": np.full((1, 200), np.nan)},
        {"names": np.array(["a"]), "replicates": np.zeros((1, 200), dtype=np.int64)},
        {"names": np.array(["a"]), "replicates": np.zeros(200)},
        {"names": np.array(["a"], dtype=object), "replicates": np.zeros((1, 200))},
    ],
    ids=["no numbers", "fewer numbers", "not finite", "whole numbers", "one axis", "objects"],
)
def test_replicates_that_do_not_fit_are_refused(tmp_path, arrays, stored_run):
    stored_run(tmp_path)
    np.savez(tmp_path / "replicates.npz", **arrays)
    with pytest.raises(ResultError, match=r"replicates\.npz beside it is damaged"):
        Run.load(tmp_path)


def test_replicates_that_are_no_archive_are_refused_without_bad_advice(tmp_path, stored_run):
    stored_run(tmp_path)
    (tmp_path / "replicates.npz").write_bytes(b"garbage")
    with pytest.raises(ResultError, match=r"is damaged \(File is not a zip file\)"):
        Run.load(tmp_path)
