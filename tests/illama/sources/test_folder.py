from __future__ import annotations

import shutil

import pytest

from illama.sources import open_source
from illama.sources.source import SourceError
from illama.transforms import ImageError


def test_class_folders_are_numbered_in_sorted_order(tmp_path, save):
    for name, value in (("dog/b.png", 1), ("cat/deep/er/a.jpg", 2), ("cat/c.JPEG", 3)):
        save(tmp_path / name, value)
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    source = open_source(str(tmp_path))
    assert source.ids == ("cat/c", "cat/deep/er/a", "dog/b")
    assert source.labels.tolist() == [0, 0, 1]
    assert source.classes == ("cat", "dog")
    assert (source.split, source.name, source.in_memory) == ("all", tmp_path.name, False)
    assert source.read(2)[0, 0, 0] == 1


def test_names_that_differ_by_their_extension_alone_keep_it(tmp_path, save):
    for name in ("a/x.png", "a/x.bmp", "a/y.png"):
        save(tmp_path / name)
    assert open_source(str(tmp_path)).ids == ("a/x.bmp", "a/x.png", "a/y")


def test_an_empty_class_and_a_stray_image_are_refused(tmp_path, save):
    save(tmp_path / "cat" / "x.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(SourceError, match=r"1 of 2 class folders have no images \(first: 'dog'\)"):
        open_source(str(tmp_path))
    shutil.rmtree(tmp_path / "dog")
    save(tmp_path / "stray.png")
    with pytest.raises(SourceError, match=r"1 images are next to the class folders"):
        open_source(str(tmp_path))


def test_numbered_classes_whose_order_is_ambiguous_are_refused(tmp_path, save):
    for name in ("1", "2", "10"):
        save(tmp_path / name / "x.png")
    with pytest.raises(SourceError, match="do not sort as numbers"):
        open_source(str(tmp_path))


def test_links_are_followed_but_not_in_circles(tmp_path, save):
    original = save(tmp_path / "elsewhere" / "x.png", 9)
    images = tmp_path / "images"
    (images / "cat").mkdir(parents=True)
    (images / "cat" / "link.png").symlink_to(original)
    (images / "cat" / "loop").symlink_to(images)
    (images / "cat" / "broken.png").symlink_to(tmp_path / "gone.png")
    (images / "dog").symlink_to(tmp_path / "elsewhere")
    source = open_source(str(images))
    assert source.ids == ("cat/broken", "cat/link", "dog/x")
    assert source.read(1)[0, 0, 0] == 9
    with pytest.raises(ImageError, match=r"broken\.png"):
        source.read(0)


def test_a_name_that_is_no_text_becomes_a_visible_escape(tmp_path, save):
    data = save(tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").unlink()
    (tmp_path / "caf\udce9.png").write_bytes(data)
    source = open_source(str(tmp_path))
    assert source.ids == ("caf\\udce9",)
    assert source.read(0).shape == (3, 4, 3)


def test_folders_whose_names_are_no_text_become_visible_escapes(tmp_path, save):
    data = save(tmp_path / "x.png").read_bytes()
    folder = tmp_path / "set\udce9" / "class\udce9"
    folder.mkdir(parents=True)
    (folder / "caf\udce9.png").write_bytes(data)
    source = open_source(str(folder.parent))
    assert source.name == "set\\udce9"
    assert source.classes == ("class\\udce9",)
    assert source.ids == ("class\\udce9/caf\\udce9",)
    assert source.read(0).shape == (3, 4, 3)


def test_a_flat_folder_is_unlabeled_without_a_table(tmp_path, save):
    save(tmp_path / "x.png")
    assert open_source(str(tmp_path)).labels is None


def test_fifty_thousand_files_are_fingerprinted_by_their_length_alone(tmp_path, save):
    path = tmp_path / "cat" / "x.png"
    first = open_source(str(save(path).parent.parent)).fingerprint
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert open_source(str(tmp_path)).fingerprint == first
    path.write_bytes(path.read_bytes() + b"?")
    assert open_source(str(tmp_path)).fingerprint != first
