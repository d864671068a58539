from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from illama.sources.source import SourceError
from illama_eval.subjects.subject import SubjectError
from illama_eval.transfer.splits import open_split


@pytest.fixture
def save(tmp_path):
    """Return a function that writes a picture of one grey below the temporary folder."""

    def write(name: str, value: int) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(tmp_path / name)

    return write


def test_images_without_labels_or_with_other_classes_make_no_pair():
    pair = open_split("digits")
    assert (len(pair.train), len(pair.test), pair.classes) == (1438, 359, 10)
    assert not set(pair.train.ids) & set(pair.test.ids)
    assert open_split("digits", train_data="digits").train.fingerprint == pair.train.fingerprint


def test_test_images_copied_into_the_training_images_are_found_by_content(save, tmp_path):
    for number in range(6):
        save(f"train/{'ab'[number % 2]}/{number}.bmp", number)
        save(f"test/{'ab'[number % 2]}/{number}.bmp", 100 + number)
    assert open_split(str(tmp_path)).note == ""
    shutil.copy(tmp_path / "test" / "a" / "0.bmp", tmp_path / "train" / "a" / "other.bmp")
    with pytest.raises(SubjectError, match=r"1 of the 6 test images .* \(first 'a/0'\)"):
        open_split(str(tmp_path))


def test_classes_are_matched_by_name_and_a_class_without_test_images_is_allowed(save, tmp_path):
    for number, name in enumerate(("train/a/0", "train/b/0", "train/c/0", "test/C/0", "test/a/0")):
        save(f"{name}.png", number)
    split = open_split(str(tmp_path))
    assert (split.classes, split.test.labels.tolist()) == (3, [2, 0])
    save("test/d/0.png", 9)
    with pytest.raises(SubjectError, match=r"their classes differ .*'d'"):
        open_split(str(tmp_path))


def test_flat_splits_have_a_table_each(save, tmp_path):
    for split, first in (("train", 0), ("test", 10)):
        rows = []
        for number in range(first, first + 4):
            save(f"{split}/{number}.png", number)
            rows.append(f"{number}.png,{'dog' if number % 2 else 'cat'}\n")
        (tmp_path / f"{split}.csv").write_text(f"file,label\n{''.join(rows)}")
    labels = tmp_path / "test.csv"
    split = open_split(str(tmp_path), labels=labels, train_labels=tmp_path / "train.csv")
    assert split.train.classes == split.test.classes == ("cat", "dog")
    assert split.test.labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(SubjectError, match="--train-labels takes those of the training split"):
        open_split(str(tmp_path), labels=labels)
    with pytest.raises(SourceError, match="not among the images"):
        open_split(str(tmp_path), labels=tmp_path / "train.csv")
