from __future__ import annotations

import pytest

from illama.sources import open_source
from illama.sources.source import SourceError


def test_the_split_is_chosen_among_the_folders_of_splits(tmp_path, save):
    for number, name in enumerate(("train", "val")):
        save(tmp_path / name / "cat" / "x.png", number)
    (tmp_path / "meta").mkdir()
    for asked, found in (("test", "val"), ("train", "train"), ("val", "val")):
        source = open_source(str(tmp_path), split=asked)
        assert (source.name, source.split, source.ids) == (tmp_path.name, found, ("cat/x",))
        same = open_source(str(tmp_path / found))
        assert (same.name, same.split) == (source.name, source.split)
        assert same.fingerprint == source.fingerprint
    with pytest.raises(SourceError, match="no split 'other'; it has train, val"):
        open_source(str(tmp_path), split="other")


def test_a_flat_unlabeled_test_folder_gives_way_to_the_val_folder(tmp_path, save):
    save(tmp_path / "test" / "x.png")
    save(tmp_path / "val" / "cat" / "x.png")
    assert open_source(str(tmp_path)).split == "val"


def test_a_linked_folder_of_a_split_keeps_its_own_name(tmp_path, save):
    save(tmp_path / "elsewhere" / "cat" / "x.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "val").symlink_to(tmp_path / "elsewhere")
    source = open_source(str(tmp_path / "set"))
    assert (source.name, source.split) == ("set", "val")


@pytest.mark.parametrize(
    ("train", "test", "found"),
    [
        ("Train", "Test", "test"),
        ("training", "valid", "valid"),
        ("TRAIN", "Validation", "validation"),
        ("training_set", "test_set", "test"),
        ("seg_train", "seg_test", "test"),
    ],
)
def test_splits_are_known_in_every_spelling(tmp_path, save, train, test, found):
    for number, name in enumerate((train, test)):
        for each in ("cat", "dog"):
            save(tmp_path / name / each / "x.png", number)
    for asked, number, split in (("test", 1, found), ("train", 0, None)):
        source = open_source(str(tmp_path), split=asked)
        assert source.classes == ("cat", "dog")
        assert source.read(0)[0, 0, 0] == number
        assert source.split == (split or source.split)


def test_a_class_may_have_the_name_of_a_split_but_splits_are_no_classes(tmp_path, save):
    for name in ("car", "boat", "train"):
        save(tmp_path / "vehicles" / name / "x.png")
    assert open_source(str(tmp_path / "vehicles")).classes == ("boat", "car", "train")
    for name in ("train/cat", "test/cat", "unlabeled"):
        save(tmp_path / "mixed" / name / "x.png")
    with pytest.raises(SourceError, match="'test', 'train' look like splits, 'unlabeled' like"):
        open_source(str(tmp_path / "mixed"))
    for name in ("one/cat", "one/dog", "two/cat", "two/dog"):
        save(tmp_path / "alike" / name / "x.png")
    with pytest.raises(SourceError, match=r"one, two all contain the same 2 folders \(cat, dog"):
        open_source(str(tmp_path / "alike"))


def test_tiny_imagenet_is_read_in_its_own_layout(tmp_path, save):
    wnids = ("n01443537", "n01629819")
    for wnid in wnids:
        save(tmp_path / "train" / wnid / "images" / f"{wnid}_0.JPEG")
        (tmp_path / "train" / wnid / f"{wnid}_boxes.txt").write_text("x")
    for number in range(2):
        save(tmp_path / "val" / "images" / f"val_{number}.JPEG", number)
        save(tmp_path / "test" / "images" / f"test_{number}.JPEG")
    lines = "val_1.JPEG\tn01443537\t0\t0\t9\t9\nval_0.JPEG\tn01629819\t0\t0\t9\t9\n"
    (tmp_path / "val" / "val_annotations.txt").write_text(lines)
    train, test = (open_source(str(tmp_path), split=split) for split in ("train", "test"))
    assert (train.classes, train.labels.tolist(), train.split) == (wnids, [0, 1], "train")
    assert (test.classes, test.labels.tolist(), test.split) == (wnids, [0, 1], "val")
    assert test.ids == ("images/val_1", "images/val_0")
    assert [(each.kind, each.files) for each in train.left_out] == [(".txt", 2)]
    assert open_source(str(tmp_path / "test")).labels is None
