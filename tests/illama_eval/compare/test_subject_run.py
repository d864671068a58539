"""Runs are read for comparing, refused where they are damaged, and told apart by their fields."""

from __future__ import annotations

import numpy as np
import pytest

from illama_eval.compare.comparison import compare_paths
from illama_eval.results import ResultError


def compared(pair):
    (found,) = compare_paths(*map(str, pair))
    return found


@pytest.mark.parametrize(
    ("keys", "value", "field"),
    [
        (("source", "fingerprint"), "0" * 64, "source.fingerprint is ffffffffffff"),
        (("source", "class_subset"), [1, 2], "source.class_subset is None"),
        (("replicate_scheme",), "other", "replicate_scheme is poisson1"),
        (
            ("subjects", "0", "transform", "interpolation"),
            "bilinear",
            "transform.interpolation is bicubic in the baseline and bilinear here",
        ),
        (("studies", "calibration", "bins"), 20, "studies.calibration.bins is 15"),
        (("studies", "rank"), None, "studies.rank.threshold is 0.8"),
    ],
)
def test_what_is_not_comparable_is_refused_by_its_field(write_run, tmp_path, keys, value, field):
    def change(header):
        inner = header["identity"]
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    paths = write_run(tmp_path / "a"), write_run(tmp_path / "b", change=change)
    with pytest.raises(ResultError, match="are not comparable") as caught:
        compared(paths)
    assert field in str(caught.value)
    assert caught.value.exit_code == 3


def test_what_may_differ_is_named(write_run, tmp_path):
    def change(header):
        header["device"] = "NVIDIA H100"
        header["identity"]["subjects"]["0"]["dtype"] = "bf16"

    paths = write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=1, change=change)
    found = compared(paths)
    assert {each.field for each in found.other_differences} == {"weights_sha256", "dtype", "device"}
    assert found.mismatches == ()


def test_other_ids_and_other_readable_images_are_not_comparable(pair, rewrite_arrays):
    def hide(arrays):
        arrays["seen"][0, 7] = 0
        del arrays["rank"], arrays["nll"]

    rewrite_arrays(pair[1], "per_image.npz", hide)
    with pytest.raises(ResultError, match="readable images is 400 images"):
        compared(pair)
    rewrite_arrays(pair[1], "per_image.npz", lambda arrays: arrays["ids"].__setitem__(7, "x"))
    with pytest.raises(ResultError, match=r"per_image\.ids"):
        compared(pair)


def test_damaged_records_are_refused(pair, rewrite_arrays, rebind):
    file = pair[1] / "per_image.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[:300])
    rebind(pair[1])
    with pytest.raises(ResultError, match=r"b[/\\]run\.json: per_image\.npz beside it is damaged"):
        compared(pair)
    file.write_bytes(whole)
    rewrite_arrays(pair[1], "per_image.npz", lambda arrays: arrays.update(rank=np.zeros((1, 3))))
    with pytest.raises(ResultError, match="do not fit its ids"):
        compared(pair)
    file.write_bytes(whole)
    rewrite_arrays(pair[1], "per_image.npz", lambda arrays: arrays["ids"].fill("x"))
    with pytest.raises(ResultError, match="an id is there twice"):
        compared(pair)


def test_replicates_of_another_number_are_refused(pair, rewrite_arrays):
    rewrite_arrays(
        pair[1],
        "replicates.npz",
        lambda arrays: arrays.update(replicates=arrays["replicates"][:, :100]),
    )
    with pytest.raises(ResultError, match=r"accuracy\.top1: damaged replicates"):
        compared(pair)


@pytest.mark.parametrize("keys", [("source",), ("replicate_scheme",), ("subjects",)])
def test_a_header_that_does_not_say_what_was_measured_is_refused(pair, keys, rewrite):
    rewrite(pair[1], lambda data: data["header"]["identity"].pop(keys[0]))
    with pytest.raises(ResultError, match=f"lacks identity.{keys[0]}"):
        compared(pair)


def test_two_rows_at_one_place_are_refused(pair, rewrite):
    rewrite(pair[1], lambda data: data["rows"].append(data["rows"][0]))
    with pytest.raises(ResultError, match=r"two rows of accuracy\.top1"):
        compared(pair)


def test_a_missing_run_is_refused(pair):
    with pytest.raises(ResultError, match="cannot be read"):
        compare_paths(str(pair[0]), str(pair[0].parent / "nothing"))


def test_several_subjects_are_compared_by_name(several_subjects, tmp_path):
    before = several_subjects(tmp_path / "a", ["one", "two"])
    after = several_subjects(tmp_path / "b", ["two", "three"])
    found = compare_paths(str(before), str(after))
    assert [each.subjects for each in found] == [("one", "one"), ("two", "two"), ("three", "three")]
    problems = [{change.problem for change in each.changes} for each in found]
    assert problems == [{"missing"}, {""}, {"new"}]
    other = several_subjects(tmp_path / "c", ["four", "five"])
    with pytest.raises(ResultError, match="none has the same name"):
        compare_paths(str(before), str(other))


def test_run_json_means_its_directory(pair):
    found = compare_paths(str(pair[0] / "run.json"), str(pair[1] / "run.json"))
    assert found[0].changes == compared(pair).changes
    assert found[0].flips is not None
