"""Numbers that cannot be, or are not what the records give, are refused with one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from illama_eval.compare.consistency import check_run
from illama_eval.results import ResultError, Run


@pytest.fixture
def path(write_run, tmp_path):
    return write_run(tmp_path / "run")


def edit(path, metric, **changes):
    data = json.loads((path / "run.json").read_text(encoding="utf-8"))
    row = next(each for each in data["rows"] if each["metric"] == metric)
    row.update(changes)
    (path / "run.json").write_text(json.dumps(data), encoding="utf-8")


def check(path):
    check_run(Run.load(path), path)


def test_a_run_as_it_was_measured_fits(path):
    check(path)


@pytest.mark.parametrize(
    ("metric", "changes", "said"),
    [
        ("top1", {"value": 1.7, "low": 1.6, "high": 1.8}, r"1\.7, which no fraction can be"),
        ("top1", {"value": 0.1, "low": 0.05, "high": 0.15}, r"0\.1, and its records give 0\.7475"),
        ("top5", {"value": 0.1, "low": 0.05, "high": 0.15}, "and its records give"),
        ("nll", {"value": 0.1, "low": 0.05, "high": 0.15}, "and its records give"),
        ("ece", {"value": 0.9}, "outside its own interval"),
        ("ece", {"value": -0.1, "low": -1}, "which no fraction can be"),
        ("nonfinite", {"value": -1}, r"which no images can be \(0 to inf\)"),
        ("top1", {"images": 399}, "of 399 images where the records have 400"),
    ],
)
def test_a_hand_edited_number_is_refused_by_its_name(path, metric, changes, said):
    edit(path, metric, **changes)
    with pytest.raises(ResultError, match=rf"\.{metric} of nano is .*{said}") as caught:
        check(path)
    assert "\n" not in str(caught.value)
    assert str(path / "run.json") in str(caught.value)


def test_without_records_a_possible_number_is_believed(path):
    (path / "per_image.npz").unlink()
    edit(path, "top1", value=0.1, low=0.05, high=0.15)
    check(path)


def test_sums_of_rounded_numbers_may_be_just_beyond_the_range(path):
    edit(path, "ece", value=1 + 1e-9, high=1.0)
    check(path)


def test_a_value_of_each_unit_is_possible(path):
    assert all(np.isfinite(row.value) for row in Run.load(path).rows)
    edit(path, "nonfinite", unit="a unit nobody knows", value=-5.0)
    check(path)
