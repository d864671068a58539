from __future__ import annotations

from types import SimpleNamespace

from illama_eval.subjects.subject import digest_of, unique_names


def test_equal_names_get_the_beginning_of_their_digest() -> None:
    names = unique_names(["a", "b", "a"], ["0123456789", "x", "fedcba9876"])
    assert names == ["a-01234567", "b", "a-fedcba98"]


def test_the_same_file_several_times_is_numbered() -> None:
    names = unique_names(["a", "a", "a"], ["0123456789", "0123456789", "fedcba9876"])
    assert names == ["a-01234567", "a-01234567 (2)", "a-fedcba98"]


def test_a_file_is_known_by_its_digest_or_by_that_of_its_weights() -> None:
    described = {"file_sha256": None, "weights_sha256": "w"}
    subject = SimpleNamespace(describe=lambda: described)
    assert digest_of(subject) == "w"
    described["file_sha256"] = "f"
    assert digest_of(subject) == "f"
