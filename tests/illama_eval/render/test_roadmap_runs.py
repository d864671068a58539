from __future__ import annotations

import pytest

from illama_eval.render.roadmap_runs import read_runs
from illama_eval.results import ResultError, Run


def test_runs_are_in_the_order_of_the_plan_and_of_their_seeds(road):
    runs = read_runs(road)
    assert [(run.arm, run.seed, run.verdict) for run in runs.runs] == [
        ("front", 0, "isolated"),
        ("behind", 0, "attends"),
        ("behind", 1, "attends"),
    ]
    assert runs.arms == ["front", "behind"]
    assert [run.seed for run in runs.of("behind")] == [0, 1]


def test_values_are_those_of_the_run_and_none_where_nothing_was_measured(road):
    (front, *_) = read_runs(road).runs
    stored = Run.load(road / "runs" / "front-seed0")
    assert front.values["top1"] == stored.value("accuracy", "top1").value
    assert front.values["ece"] == stored.value("calibration", "ece").value
    assert front.values["rank_softmax"] is None
    assert front.train_loss == pytest.approx(1.7)


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ResultError, match="holds no readable roadmap"):
        read_runs(tmp_path)
    (tmp_path / "roadmap.json").write_text('{"arms": {}}', encoding="utf-8")
    with pytest.raises(ResultError, match="holds no finished run"):
        read_runs(tmp_path)


def test_a_damaged_log_or_run_is_refused_in_one_line(road):
    (road / "runs" / "behind-seed0" / "log.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(ResultError, match="holds no readable roadmap"):
        read_runs(road)
    (road / "runs" / "behind-seed0" / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(ResultError, match=r"behind-seed0.run\.json"):
        read_runs(road)
