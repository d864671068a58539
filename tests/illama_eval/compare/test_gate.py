"""The gate: each state by itself, what fails, and that nothing passes unseen."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from illama_eval.compare.change import NO_REPLICATES, Change
from illama_eval.compare.gate import (
    AMONG_MANY,
    NEAR_CALIBRATED,
    NOTHING,
    _judge,
    check,
    write_baseline,
)
from illama_eval.compare.policy import Policy, Rule
from illama_eval.results import ResultError, Run
from illama_eval.statistics import holm


def make_change(low, value, high, **changes):
    given = {
        "study": "accuracy",
        "metric": "top1",
        "at": {},
        "unit": "fraction",
        "images": 1000,
        "better": "higher",
        "tolerance": 0.01,
        "baseline": 0.5,
        "candidate": 0.5 + value,
        "difference": value,
        "low": low,
        "high": high,
        "detectable": 0.02,
    }
    return Change(**{**given, **changes})


def judge(change, rule=None, policy=None):
    settled = (rule or Rule()).settled(change)
    return _judge("nano", change, settled, policy or Policy())


@pytest.mark.parametrize(
    ("interval", "state", "outcome"),
    [
        ((0.001, 0.02, 0.03), "better", "pass"),
        ((0.0, 0.01, 0.03), "same", "pass"),
        ((-0.01, 0.0, 0.03), "same", "pass"),
        ((-0.009, -0.005, -0.001), "same", "pass"),
        ((-0.011, 0.0, 0.03), "inconclusive", "warn"),
        ((-0.03, -0.02, -0.01), "inconclusive", "warn"),
        ((-0.03, -0.02, -0.011), "worse", "fail"),
    ],
)
@pytest.mark.parametrize("better", ["higher", "lower"])
def test_states_follow_the_interval_and_the_margin(interval, state, outcome, better):
    if better == "lower":
        interval = tuple(-end for end in reversed(interval))
    found = judge(make_change(*interval, better=better))
    assert (found.state, found.outcome, found.margin) == (state, outcome, 0.01)


ESTIMATES = [(0.02, "better"), (0.01, "same"), (-0.01, "same"), (-0.02, "worse")]


@pytest.mark.parametrize(("value", "state"), ESTIMATES)
def test_the_margin_alone_decides_counts_and_where_the_policy_says_so(value, state):
    wide = judge(make_change(-1, value, 1), Rule(significant=False))
    assert (wide.state, wide.reason) == (state, "judged by its margin alone: the estimate decides")
    count = judge(replace(make_change(None, value, None), unit="images"))
    assert (count.state, count.reason) == (state, "judged by its margin alone: it is a count")


def test_a_number_without_an_interval_fails_only_where_chance_cannot_move_it_so_far():
    reach = math.sqrt(2 * math.log(2 / 0.05) / make_change(0, 0, 0).images)
    within, beyond = 0.01 + reach - 1e-6, 0.01 + reach + 1e-6
    for value, state in ((0.01, "same"), (-within, "inconclusive"), (within, "inconclusive")):
        found = judge(make_change(None, value, None))
        assert (found.state, found.reason[:22]) == (state, "it has no interval: ju")
    assert judge(make_change(None, -beyond, None)).outcome == "fail"
    assert judge(make_change(None, beyond, None)).state == "better"
    endless = replace(make_change(None, -9.0, None), unit="nats")
    assert judge(endless).state == "inconclusive"


def test_an_unclear_error_near_calibrated_on_both_sides_is_the_same():
    change = make_change(
        0.02, 0.03, 0.04, study="calibration", metric="ece", better="lower", calibrated=True
    )
    strict = Policy(inconclusive="fail")
    assert judge(change).state == "worse"  # an interval that excludes the margin is not overridden
    unclear = replace(change, low=-0.02)
    assert judge(replace(unclear, calibrated=False)).state == "inconclusive"
    found = judge(unclear, policy=strict)
    assert (found.state, found.outcome, found.reason) == ("same", "pass", NEAR_CALIBRATED)


def test_fewer_than_30_images_are_not_judged():
    found = judge(replace(make_change(-0.5, -0.4, -0.3), images=29))
    assert (found.state, found.outcome) == ("not comparable", "error")
    assert "29 images are too few to judge; 30 are needed" in found.reason
    assert judge(replace(make_change(-0.5, -0.4, -0.3), images=30)).state == "worse"


def test_one_of_many_metrics_is_worse_only_by_its_adjusted_p():
    worse = make_change(-0.03, -0.02, -0.011)
    assert judge(replace(worse, p_holm=0.099)).state == "worse"
    found = judge(replace(worse, p_holm=0.11))
    assert (found.state, found.outcome, found.reason) == ("inconclusive", "warn", AMONG_MANY)


def test_few_groups_of_images_are_not_judged():
    found = judge(make_change(-0.5, -0.4, -0.3, groups=29))
    assert (found.state, found.outcome) == ("not comparable", "error")
    assert "29 groups of images are too few to judge; 30 are needed" in found.reason
    assert judge(make_change(-0.5, -0.4, -0.3, groups=30)).state == "worse"


def test_an_inconclusive_metric_says_how_many_images_it_takes():
    found = judge(make_change(-0.03, -0.001, 0.03))
    assert found.images_wanted == 4000
    assert judge(make_change(-0.03, -0.02, -0.011)).images_wanted is None
    assert judge(make_change(-0.03, 0.0, 0.03, tolerance=0.0)).images_wanted is None


def test_a_difference_that_means_nothing_neither_passes_as_a_gain_nor_fails():
    tiny = make_change(-9.5e-5, -9e-5, -8.5e-5, tolerance=0.0)
    assert judge(tiny).state == "same"
    gain = replace(tiny, low=8.5e-5, difference=9e-5, high=9.5e-5)
    assert judge(gain).state == "same"


def test_undefined_replicates_are_too_few_to_judge():
    few = make_change(None, -0.4, None, undecidable="too few images: undefined in 3 of 200")
    found = judge(few)
    assert (found.state, found.outcome) == ("not comparable", "error")
    assert found.reason == "too few images: undefined in 3 of 200"


def test_severity_and_policy_decide_what_a_state_comes_to():
    worse, unclear = make_change(-0.03, -0.02, -0.011), make_change(-0.03, 0.0, 0.03)
    assert judge(worse, Rule(severity="warn")).outcome == "warn"
    assert judge(worse, Rule(severity="ignore")).state == "not gated"
    assert judge(unclear, policy=Policy(inconclusive="fail")).outcome == "fail"
    lenient = judge(unclear, Rule(severity="warn"), Policy(inconclusive="fail"))
    assert lenient.outcome == "warn"


@pytest.mark.parametrize(
    ("problem", "policy", "outcome"),
    [
        ("missing", Policy(), "error"),
        ("missing", Policy(removed="warn"), "warn"),
        ("missing", Policy(removed="allow"), "info"),
        ("new", Policy(), "info"),
        ("new", Policy(new="warn"), "warn"),
        ("new", Policy(new="fail"), "error"),
        ("not comparable", Policy(removed="allow", new="allow"), "error"),
    ],
)
def test_metrics_without_numbers_follow_the_policy(problem, policy, outcome):
    found = judge(make_change(None, 0, None, difference=None, problem=problem), policy=policy)
    assert (found.state, found.outcome, found.margin) == (problem, outcome, None)


def test_a_metric_without_a_better_side_is_an_error_if_the_policy_gates_it():
    change = make_change(-1, 0, 1, better=None)
    assert judge(change).state == "not gated"
    found = judge(change, Rule(severity="fail"))
    assert (found.state, found.outcome) == ("not comparable", "error")
    assert 'better = "higher" or "lower"' in found.reason
    assert judge(change, Rule(severity="fail", better="higher")).state == "inconclusive"


@pytest.fixture
def baseline(write_run, tmp_path):
    path = tmp_path / "reports" / "baseline.json"
    write_baseline(write_run(tmp_path / "first"), path)
    return path


def state_of(verdicts, name):
    (found,) = (each for each in verdicts.judged if each.name == name)
    return found.state


def test_an_equal_run_passes(write_run, tmp_path, baseline):
    found = check(write_run(tmp_path / "again"), baseline)
    assert found.exit_code == 0
    assert {each.state for each in found.of("pass")} == {"same"}
    assert [each.name for each in found.of("pass")] == [
        "accuracy.top1",
        "accuracy.top5",
        "accuracy.nll",
        "accuracy.nonfinite",
        "calibration.ece",
    ]
    assert {each.outcome for each in found.judged} == {"pass", "info"}


def test_a_worse_run_fails_and_names_its_metrics(write_run, tmp_path, baseline):
    found = check(write_run(tmp_path / "worse", accuracy=0.6, seed=1), baseline)
    assert found.exit_code == 1
    assert {"accuracy.top1", "accuracy.nll"} <= {each.name for each in found.of("fail")}


def test_a_better_run_passes(write_run, tmp_path, baseline):
    ignored = Rule(severity="ignore")
    others = {"calibration": {"*": ignored}, "accuracy": {"nll": ignored}}
    run = write_run(tmp_path / "better", accuracy=0.95, seed=1)
    found = check(run, baseline, Policy(metrics=others))
    assert found.exit_code == 0
    assert state_of(found, "accuracy.top1") == "better"


def test_a_baseline_file_says_what_the_run_directory_says(write_run, tmp_path, baseline):
    run = write_run(tmp_path / "other", accuracy=0.7, seed=1)
    file, directory = (check(run, path) for path in (baseline, tmp_path / "first"))
    assert file.judged == directory.judged
    assert file.comparisons[0].flips == directory.comparisons[0].flips != None  # noqa: E711 - all three


def test_a_baseline_is_small_and_the_same_for_the_same_run(tmp_path, baseline):
    before = [path.read_bytes() for path in (baseline, baseline.with_suffix(".npz"))]
    assert all(not row.at for row in Run.load(baseline).rows)
    with np.load(baseline.with_suffix(".npz")) as arrays:
        assert {arrays[name].dtype.itemsize for name in ("seen", "rank", "prediction")} == {1}
    write_baseline(tmp_path / "first", baseline)
    assert before == [path.read_bytes() for path in (baseline, baseline.with_suffix(".npz"))]


def test_without_its_npz_nothing_that_varies_is_judged(write_run, tmp_path, baseline):
    baseline.with_suffix(".npz").unlink()
    run = write_run(tmp_path / "worse", accuracy=0.6, seed=1)
    found = check(run, baseline)
    assert found.exit_code == 3
    assert {each.reason for each in found.of("error")} == {NO_REPLICATES}
    assert [each.name for each in found.of("pass")] == ["accuracy.nonfinite"]
    assert "no per-image records" in found.comparisons[0].notes[0]
    by_estimate = Policy(metrics={"accuracy": {"top1": Rule(significant=False, severity="fail")}})
    assert check(run, baseline, by_estimate).exit_code == 1


def test_a_missing_baseline_is_no_pass(write_run, tmp_path):
    found = check(write_run(tmp_path / "run"), tmp_path / "baseline.json")
    assert found.exit_code == 3
    assert "cannot be read" in found.problem
    assert "--update-baseline writes one" in found.problem


def test_a_run_is_not_its_own_baseline(write_run, tmp_path):
    run = write_run(tmp_path / "run")
    found = check(run, tmp_path / "x" / ".." / "run" / "run.json")
    assert (found.exit_code, "the baseline is the run itself" in found.problem) == (3, True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text[: len(text) // 2], "not a run"),
        (lambda text: text.replace('"schema_version": 2', '"schema_version": 0'), "version 0"),
        (lambda text: text.replace('"value": ', '"value": "x", "v": ', 1), "not a run"),
        (lambda _: "", "not a run"),
    ],
)
def test_a_damaged_baseline_is_no_pass(write_run, tmp_path, baseline, spoil, said):
    baseline.write_text(spoil(baseline.read_text(encoding="utf-8")), encoding="utf-8")
    found = check(write_run(tmp_path / "run", seed=1), baseline)
    assert (found.exit_code, found.judged) == (3, ())
    assert said in found.problem
    assert str(baseline) in found.problem


def test_damaged_replicates_of_a_baseline_are_no_pass(write_run, tmp_path, baseline):
    file = baseline.with_suffix(".npz")
    file.write_bytes(file.read_bytes()[:1000])
    found = check(write_run(tmp_path / "run", seed=1), baseline)
    assert found.exit_code == 3
    assert r"baseline.npz beside it is damaged" in found.problem


def test_a_run_that_cannot_be_read_is_refused(tmp_path, baseline):
    with pytest.raises(ResultError, match="cannot be read"):
        check(tmp_path / "nothing", baseline)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("source", "fingerprint"), "0" * 64, "source.fingerprint"),
        (("subjects", "0", "transform", "interpolation"), "bilinear", "transform.interpolation"),
    ],
)
def test_another_source_or_transform_is_no_pass(write_run, tmp_path, baseline, keys, value, said):
    def change(header):
        inner = header["identity"]
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    found = check(write_run(tmp_path / "run", change=change), baseline)
    assert found.exit_code == 3
    assert said in found.problem
    assert {each.state for each in found.of("error")} == {"not comparable"}


def test_another_parameter_of_one_study_leaves_the_others_judged(write_run, tmp_path, baseline):
    def change(header):
        header["identity"]["studies"]["calibration"]["bins"] = 20

    same = check(write_run(tmp_path / "same", change=change), baseline)
    assert (same.exit_code, same.problem) == (3, "")
    assert [each.name for each in same.of("error")] == ["calibration.ece"]
    assert "studies.calibration.bins" in same.of("error")[0].reason
    worse = check(write_run(tmp_path / "worse", change=change, accuracy=0.6), baseline)
    assert worse.exit_code == 1


def leave_out(path, study):
    data = json.loads((path / "run.json").read_text(encoding="utf-8"))
    data["rows"] = [row for row in data["rows"] if row["study"] != study]
    (path / "run.json").write_text(json.dumps(data), encoding="utf-8")
    return path


def test_a_study_that_was_not_run_is_missing(write_run, tmp_path, baseline):
    run = leave_out(write_run(tmp_path / "run"), "calibration")
    found = check(run, baseline)
    assert found.exit_code == 3
    assert [each.name for each in found.of("error")] == ["calibration.ece"]
    assert check(run, baseline, Policy(removed="allow")).exit_code == 0


def test_where_nothing_is_compared_nothing_passes(write_run, tmp_path, baseline):
    run = leave_out(leave_out(write_run(tmp_path / "run"), "calibration"), "accuracy")
    found = check(run, baseline, Policy(removed="allow"))
    assert (found.exit_code, found.problem) == (3, NOTHING)
    ignored = {study: {"*": Rule(severity="ignore")} for study in ("accuracy", "calibration")}
    found = check(write_run(tmp_path / "whole"), baseline, Policy(metrics=ignored))
    assert (found.exit_code, found.problem) == (3, NOTHING)


def test_a_metric_that_the_policy_names_and_nobody_measured_is_missing(
    write_run, tmp_path, baseline
):
    run = write_run(tmp_path / "run")
    found = check(run, baseline, Policy(metrics={"accuracy": {"top_1": Rule(severity="fail")}}))
    assert found.exit_code == 3
    assert [(each.name, each.state) for each in found.of("error")] == [
        ("accuracy.top_1", "missing")
    ]


def test_rules_for_all_metrics_of_a_study_that_nobody_measured_are_told(
    write_run, tmp_path, baseline
):
    policy = Policy(metrics={"acuracy": {"*": Rule(absolute=0.1)}, "accuracy": {"*": Rule()}})
    found = check(write_run(tmp_path / "again"), baseline, policy)
    (told,) = [each for each in found.judged if each.state == "missing"]
    assert (told.study, told.metric, told.outcome) == ("acuracy", "*", "warn")
    assert told.reason.startswith("acuracy: measured neither")
    assert found.exit_code == 0


def test_p_is_adjusted_over_what_the_policy_gates(write_run, tmp_path, baseline):
    run = write_run(tmp_path / "run", accuracy=0.75, seed=1)
    rules = {study: {"*": Rule(severity="ignore")} for study in ("accuracy", "calibration")}
    rules["accuracy"]["nll"] = Rule(severity="fail")
    (alone,) = check(run, baseline, Policy(metrics=rules)).comparisons
    (change,) = (each for each in alone.changes if each.metric == "nll")
    assert change.p_holm == change.p
    others = [each for each in alone.changes if each.tested and each.metric != "nll" and each.p]
    assert [each.p_holm for each in others] == holm([each.p for each in others])


def test_a_baseline_is_written_to_a_json_file_only(write_run, tmp_path):
    run = write_run(tmp_path / "run")
    for path in (tmp_path / "baseline", run):
        with pytest.raises(ResultError, match=r"name one that ends in \.json"):
            write_baseline(run, path)
    with pytest.raises(ResultError, match="cannot be read"):
        write_baseline(tmp_path / "nothing", tmp_path / "baseline.json")
