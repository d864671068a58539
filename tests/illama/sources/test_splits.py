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
