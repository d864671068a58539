"""Comparisons: differences by hand, images put in order by id, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from illama_eval.compare.comparison import adjust, compare_paths, find_best, paths_of, to_json
from illama_eval.results import ResultError, Run
from illama_eval.statistics import Estimate, holm, mcnemar, recovered_difference, welch, widen


def change_of(comparison, study, metric):
    (found,) = (each for each in comparison.changes if (each.study, each.metric) == (study, metric))
    return found


def compared(pair):
    (found,) = compare_paths(*map(str, pair))
    return found


def test_a_difference_is_candidate_less_baseline_with_the_replicates_paired(pair):
    found = change_of(compared(pair), "accuracy", "nll")
    before, after = (Run.load(path).value("accuracy", "nll") for path in pair)
    assert found.difference == after.value - before.value
    ordered = np.sort(after.replicates - before.replicates)
    assert (found.low, found.high) == widen(found.difference, ordered[4], ordered[195], 400)
    assert found.low < found.difference < found.high
    assert (found.unit, found.images, found.better, found.tolerance) == ("nats", 400, "lower", 5e-3)


def test_the_difference_of_calibration_errors_has_the_interval_recovered_from_both(pair):
    found = change_of(compared(pair), "calibration", "ece")
    rows = [Run.load(path).value("calibration", "ece") for path in pair]
    sides = [
        Estimate(value=row.value, low=row.low, high=row.high, replicates=row.replicates)
        for row in rows
    ]
    expected = recovered_difference(*sides)
    assert (found.difference, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert found.p == pytest.approx(expected.p)


def test_what_has_no_interval_by_itself_has_none_of_its_difference(pair, rewrite):
    def withhold(data):
        (error,) = (row for row in data["rows"] if row["metric"] == "ece")
        error.update(low=None, high=None)

    rewrite(pair[1], withhold)
    found = change_of(compared(pair), "calibration", "ece")
    assert found.difference is not None
    assert (found.low, found.high, found.p) == (None, None, None)


def test_errors_that_a_calibrated_model_would_show_are_near_calibrated(pair, rewrite):
    def add_p(data):
        (floor,) = (row for row in data["rows"] if row["metric"] == "ece_floor")
        data["rows"].append(
            {**floor, "metric": "calibrated_p", "value": 0.3, "low": None, "high": None}
        )

    assert not change_of(compared(pair), "calibration", "ece").calibrated
    for path in pair:
        rewrite(path, add_p)
    assert change_of(compared(pair), "calibration", "ece").calibrated
    assert not change_of(compared(pair), "accuracy", "nll").calibrated
    rewrite(
        pair[1],
        lambda data: data.update(
            rows=[each for each in data["rows"] if each["metric"] != "calibrated_p"]
        ),
    )
    assert not change_of(compared(pair), "calibration", "ece").calibrated


def test_flips_and_mcnemar_come_from_the_records(pair):
    found = compared(pair)
    ranks = []
    for path in pair:
        with np.load(path / "per_image.npz") as records:
            ranks.append(records["rank"][0])
    before, after = (rank == 0 for rank in ranks)
    flips = found.flips
    assert flips.lost == (before & ~after).sum() > 20
    assert flips.gained == (~before & after).sum() > 0
    assert flips.both_right + flips.both_wrong + flips.lost + flips.gained == flips.images == 400
    assert flips.changed >= flips.lost + flips.gained
    top1, top5 = (change_of(found, "accuracy", metric) for metric in ("top1", "top5"))
    assert top1.p == mcnemar(flips.lost, flips.gained).p
    assert top1.difference == pytest.approx((flips.gained - flips.lost) / 400)
    assert top1.detectable == flips.detectable
    before, after = (rank < 5 for rank in ranks)
    assert top5.p == mcnemar((before & ~after).sum(), (~before & after).sum()).p


def test_holm_counts_each_metric_that_repeats_no_other_once(pair):
    found = compared(pair)
    counted = [each for each in found.changes if each.p_holm is not None]
    assert [each.metric for each in counted] == ["top1", "top5", "nll", "ece", "rank_per_image"]
    assert [each.p_holm for each in counted] == holm([each.p for each in counted])
    assert change_of(found, "calibration", "ece_floor").p is not None
    alone = adjust(found.changes, {("rank", "rank_per_image", ())})
    assert [each.metric for each in alone if each.p_holm is not None] == ["rank_per_image"]


def test_findings_follow_direction_and_interval(pair):
    found = compared(pair)
    assert change_of(found, "accuracy", "top1").finding == "worse"
    assert change_of(found, "rank", "rank_per_image").finding == "differs"
    assert change_of(found, "accuracy", "nonfinite").finding == ""
    (back,) = compare_paths(*map(str, reversed(pair)))
    assert change_of(back, "accuracy", "top1").finding == "better"
    assert change_of(back, "accuracy", "top1").difference == pytest.approx(
        -change_of(found, "accuracy", "top1").difference
    )


def test_findings_follow_the_adjusted_p(pair):
    found = change_of(compared(pair), "accuracy", "top1")
    assert found.p_holm <= 0.05
    for p_holm in (0.051, None):
        assert replace(found, p_holm=p_holm).finding == ""


def test_a_difference_too_small_to_mean_something_is_no_finding(pair):
    found = change_of(compared(pair), "accuracy", "top1")
    tiny = {"difference": -9e-5, "low": -9.5e-5, "high": -8.5e-5}
    assert replace(found, **tiny).finding == ""
    assert replace(found, difference=-2e-4, low=-3e-4, high=-1e-4).finding == "worse"


def test_the_candidate_does_not_declare_how_it_is_judged(write_run, tmp_path):
    def declare(header):
        header["metrics"]["accuracy"]["top1"] = {"better": "lower", "tolerance": 1.0}

    paths = write_run(tmp_path / "a"), write_run(tmp_path / "b", accuracy=0.7, change=declare)
    found = change_of(compared(paths), "accuracy", "top1")
    assert (found.better, found.tolerance, found.finding) == ("higher", 1e-3, "worse")


def test_undefined_replicates_are_too_few_images_to_tell(pair, rewrite, rewrite_arrays):
    def undefine(data):
        nll = next(row for row in data["rows"] if row["metric"] == "nll")
        nll |= {"low": None, "high": None, "reason": "too few images: undefined in 3 of 200"}

    rewrite(pair[1], undefine)
    rewrite_arrays(
        pair[1], "replicates.npz", lambda arrays: arrays["names"].__setitem__(2, "gone[]")
    )
    found = change_of(compared(pair), "accuracy", "nll")
    assert found.undecidable == "too few images: undefined in 3 of 200"
    assert (found.low, found.finding) == (None, "")


def test_the_best_is_clearly_better_than_every_other(pair):
    worse = change_of(compared(pair), "accuracy", "top1")
    better = change_of(compared(pair[::-1]), "accuracy", "top1")
    assert (better.finding, worse.finding) == ("better", "worse")

    def best_of(ab, ac, bc):
        outcomes = {"ab": ab, "ac": ac, "bc": bc}
        return find_best("abc", lambda first, second: outcomes[first + second])

    assert best_of(worse, worse, None) == "a"
    assert best_of(better, None, worse) == "b"
    assert best_of(worse, None, better) is None  # a and c are not told apart
    assert find_best("ab", lambda *_: replace(worse, calibrated=True)) is None
    assert find_best("a", lambda *_: None) is None


def test_a_run_does_not_differ_from_itself(pair):
    found = compared((pair[0], pair[0]))
    assert found.mismatches == found.other_differences == ()
    assert {each.difference for each in found.changes} == {0}
    assert {each.p for each in found.changes if each.low is not None} == {1}
    assert {each.finding for each in found.changes} == {""}


def test_rounding_is_no_difference(pair, rewrite, rewrite_arrays):
    def nudge(data):
        for row in data["rows"]:
            row["value"] *= 1 + 1e-14

    rewrite(pair[0], nudge)
    rewrite_arrays(
        pair[0], "replicates.npz", lambda a: a.update(replicates=a["replicates"] + 1e-15)
    )
    found = compare_paths(str(pair[0]), str(pair[0].parent / "a"))[0]
    assert {each.difference for each in found.changes} == {0}


def test_records_in_another_order_are_put_in_order_by_id(pair, rewrite_arrays):
    straight = compared(pair)
    order = np.random.default_rng(3).permutation(400)
    rewrite_arrays(
        pair[1],
        "per_image.npz",
        lambda arrays: arrays.update(
            {name: values[..., order] for name, values in arrays.items() if name != "subjects"}
        ),
    )
    assert compared(pair).flips == straight.flips


def test_rows_with_a_place_are_compared_only_everywhere_and_are_no_tests(pair):
    assert all(not each.at for each in compared(pair).changes)
    (found,) = compare_paths(*map(str, pair), everywhere=True)
    placed = [each for each in found.changes if each.at]
    assert [each.at for each in placed] == [{"layer": 1}, {"layer": 2}]
    assert all(each.low < each.difference < each.high for each in placed)
    assert [each.p_holm for each in placed] == holm([each.p for each in placed])
    assert [each for each in found.changes if not each.at] == list(compared(pair).changes)


def test_without_replicates_there_are_differences_and_no_intervals(pair):
    (pair[0] / "replicates.npz").unlink()
    found = change_of(compared(pair), "accuracy", "nll")
    assert found.difference is not None
    assert (found.low, found.high, found.p, found.finding) == (None, None, None, "")


def test_without_records_there_are_no_flips_and_a_note_says_why(pair):
    (pair[1] / "per_image.npz").unlink()
    found = compared(pair)
    assert found.flips is None
    assert "no per-image records" in found.notes[0]
    assert change_of(found, "accuracy", "top1").p is not None


def test_a_study_of_one_side_only_is_missing_or_new(pair, rewrite):
    def leave_out(data):
        data["rows"] = [row for row in data["rows"] if row["study"] != "rank"]

    rewrite(pair[1], leave_out)
    found = change_of(compared(pair), "rank", "rank_per_image")
    assert (found.problem, found.difference) == ("missing", None)
    assert found.reason == "not measured in the run"
    back = change_of(compared(pair[::-1]), "rank", "rank_per_image")
    assert (back.problem, back.reason) == ("new", "not measured in the baseline")


def test_an_undefined_value_is_missing_with_its_reason(pair, rewrite):
    def undefine(data):
        data["rows"][0] |= {"value": None, "low": None, "high": None, "reason": "no labels"}

    rewrite(pair[1], undefine)
    found = change_of(compared(pair), "accuracy", "top1")
    assert (found.problem, found.reason) == ("missing", "undefined (no labels) in the run")


def test_rows_on_another_number_of_images_are_not_comparable(pair, rewrite):
    rewrite(pair[1], lambda data: data["rows"][4].update(images=399))
    found = change_of(compared(pair), "calibration", "ece")
    assert (found.problem, found.difference) == ("not comparable", None)
    assert found.reason == "images: 400 in the baseline, 399 here"


def test_a_run_of_schema_1_names_no_files_and_a_note_says_so(pair, rewrite):
    def age(data):
        data["schema_version"] = 1
        del data["files"]

    rewrite(pair[0], age)
    found = compared(pair)
    assert found.notes == (f"{pair[0]}: written before run.json named its files; measure again",)
    assert compared((pair[1], pair[1])).notes == ()


def test_groups_of_seeds_have_means_and_an_interval_over_seeds(write_run, tmp_path):
    before = [write_run(tmp_path / f"a{n}", seed=n) for n in range(3)]
    after = [write_run(tmp_path / f"b{n}", seed=10 + n, accuracy=0.7) for n in range(2)]
    (found,) = compare_paths(",".join(map(str, before)), ",".join(map(str, after)))
    values = [
        [Run.load(p).value("accuracy", "nll").value for p in side] for side in (before, after)
    ]
    nll = change_of(found, "accuracy", "nll")
    assert (nll.baseline, nll.candidate) == pytest.approx(tuple(map(np.mean, values)))
    assert (nll.seeds_low, nll.seeds_high, nll.p) == welch(*values)
    assert nll.low < nll.difference < nll.high
    assert found.flips is None
    assert "groups of seeds" in found.notes[0]
    assert found.subjects == ("nano and 2 more seeds", "nano and 1 more seed")
    (lone,) = compare_paths(str(before[0]), ",".join(map(str, after)))
    nll = change_of(lone, "accuracy", "nll")
    assert (nll.seeds_low, nll.seeds_high, nll.p) == welch(values[0][:1], values[1])


def test_a_finding_needs_both_intervals_to_exclude_zero(write_run, tmp_path):
    before = [write_run(tmp_path / f"a{n}", seed=n, accuracy=0.8 + n / 12) for n in range(2)]
    after = [write_run(tmp_path / f"b{n}", seed=9 + n, accuracy=0.7 + n / 12) for n in range(2)]
    (found,) = compare_paths(",".join(map(str, before)), ",".join(map(str, after)))
    top1 = change_of(found, "accuracy", "top1")
    assert top1.high < 0 < top1.seeds_high
    assert top1.finding == ""


def test_a_group_holds_no_run_twice_and_none_of_several_subjects(
    write_run, several_subjects, tmp_path
):
    one, other = write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=1)
    with pytest.raises(ResultError, match="the same weights twice"):
        compare_paths(f"{one},{one}", str(other))
    both = several_subjects(tmp_path / "c", ["x", "y"])
    with pytest.raises(ResultError, match="a group takes runs of one each"):
        compare_paths(f"{one},{both}", str(other))


def test_a_path_with_a_comma_in_its_name_is_one_run(tmp_path):
    (tmp_path / "a,b").mkdir()
    assert paths_of(str(tmp_path / "a,b")) == [tmp_path / "a,b"]
    assert len(paths_of("a1,a2,a3")) == 3


def test_the_json_is_strict_and_whole(pair):
    found = compared(pair)
    text = to_json([found])
    data = json.loads(text, parse_constant=pytest.fail)
    assert data["schema_version"] == 1
    (plain,) = data["comparisons"]
    assert len(plain["changes"]) == len(found.changes)
    assert plain["flips"]["test"]["exact"] == found.flips.test.exact
    assert text == to_json([compared(pair)])


def test_comparing_does_not_load_torch():
    modules = "illama_eval.compare.comparison, illama_eval.compare.gate"
    program = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
