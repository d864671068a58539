"""What a finished run holds: records that agree with its rows, and images that are there twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from illama.sources.source import make_source
from illama_eval import Run
from illama_eval.run.evaluate import evaluate
from illama_eval.run.finalize import REPEATED, find_repeats, repeats_in_words
from illama_eval.studies.accuracy import Accuracy


def source_of(*contents):
    return make_source(
        name="twins",
        split="all",
        names=[f"id/{number}" for number in range(len(contents))],
        labels=np.zeros(len(contents), np.int64),
        contents=contents,
        read=lambda position: np.full((8, 8, 3), position, np.uint8),
        in_memory=True,
    )


def test_a_picture_under_two_ids_is_found_by_its_content():
    found = find_repeats(source_of("a", "b", "a", "c", "a", "c"))
    assert found == [["id/2", "id/0"], ["id/4", "id/0"], ["id/5", "id/3"]]
    assert repeats_in_words(found) == (
        f"{REPEATED}: 3 (first: id/2 is id/0); intervals take them for different images"
    )


def test_what_is_not_known_is_not_the_same():
    assert find_repeats(source_of("", "", "a", 7, 7)) == []  # unreadable, and of equal length
    assert repeats_in_words([]) == ""


def test_the_header_counts_and_names_them(subject):
    header = evaluate(subject, source_of("a", "b", "a"), [Accuracy()]).header["source"]
    assert header["repeated"] == {"count": 1, "first": [["id/2", "id/0"]]}
    assert any(REPEATED in note for note in header["notes"])


def test_records_agree_with_the_rows(whole: Path) -> None:
    run = Run.load(whole)
    with np.load(whole / "per_image.npz") as records:
        right = records["prediction"][0] == records["label"][0]
        assert len(records["ids"]) == 61
        assert right.mean() == pytest.approx(run.value("accuracy", "top1").value)
