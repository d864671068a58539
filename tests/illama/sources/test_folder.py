from __future__ import annotations

import os
import shutil

import pytest

from illama.sources import folder, open_source
from illama.sources.contents import hash_file
from illama.sources.head import for_head
from illama.sources.source import SourceError
from illama.sources.summary import left_out_in_words
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


def test_numbered_folders_are_in_the_order_of_their_numbers(tmp_path, save):
    for name in ("0", "1", "2", "10"):
        save(tmp_path / name / "x.png")
    source = open_source(str(tmp_path))
    assert source.classes == ("0", "1", "2", "10")
    assert source.numbered == "in the order of their numbers"
    (tmp_path / "10").rename(tmp_path / "003")
    source = open_source(str(tmp_path))
    assert (source.ids[0], source.labels[0], source.numbered) == ("0/x", 0, "")
    assert for_head(source, 4, ("a", "b", "c", "d")).labels.tolist() == source.labels.tolist()
    save(tmp_path / "3" / "x.png")
    with pytest.raises(SourceError, match="two class folders are the number 3"):
        open_source(str(tmp_path))


def test_files_that_are_no_images_are_counted_by_kind(tmp_path, save):
    for name in ("cat/a.jfif", "cat/b.JPE", "dog/c.png"):
        save((tmp_path / name).with_suffix(".jpg")).rename(tmp_path / name)
    for name in ("cat/d.heic", "dog/e.heic", "notes", ".DS_Store", "cat/@eaDir/a.jpg", ".git/x/y"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"")
    source = open_source(str(tmp_path))
    assert source.ids == ("cat/a", "cat/b", "dog/c")
    assert {(each.kind, each.files) for each in source.left_out} == {
        (".heic", 2),
        ("in hidden folders", 2),
        ("hidden", 1),
        ("without a suffix", 1),
    }
    assert left_out_in_words(source).startswith(
        "6 files left out: 2 .heic (first cat/d.heic), 2 in"
    )
    for name in ("cat/a.jfif", "cat/b.JPE", "dog/c.png"):
        (tmp_path / name).unlink()
    with pytest.raises(SourceError, match=r"has no images .*, only 2 \.heic, 2 in hidden folders"):
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
    inside = tmp_path / "set\udce9" / "class\udce9"
    inside.mkdir(parents=True)
    (inside / "caf\udce9.png").write_bytes(data)
    source = open_source(str(inside.parent))
    assert source.name == "set\\udce9"
    assert source.classes == ("class\\udce9",)
    assert source.ids == ("class\\udce9/caf\\udce9",)
    assert source.read(0).shape == (3, 4, 3)


def test_a_flat_folder_is_unlabeled_without_a_table(tmp_path, save):
    save(tmp_path / "x.png")
    assert open_source(str(tmp_path)).labels is None


def test_the_fingerprint_follows_the_content_of_files_and_each_is_read_once(
    tmp_path, save, monkeypatch
):
    path = save(tmp_path / "cat" / "x.bmp", 1)
    save(tmp_path / "cat" / "y.bmp", 2)
    read = []

    def counted(path):
        read.append(path.name)
        return hash_file(path)

    monkeypatch.setattr(folder, "hash_file", counted)
    source = open_source(str(tmp_path))
    assert source.limit(1, 0).fingerprint != source.fingerprint == for_head(source, 1).fingerprint
    assert sorted(read) == ["x.bmp", "y.bmp"]
    times = path.stat()
    save(path, 3)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    assert open_source(str(tmp_path)).fingerprint != source.fingerprint
    path.unlink()
    assert open_source(str(tmp_path)).contents[0] == source.contents[1]


def test_an_unreadable_file_has_no_content(tmp_path, save):
    save(tmp_path / "cat" / "x.png")
    (tmp_path / "cat" / "broken.png").symlink_to(tmp_path / "gone.png")
    assert open_source(str(tmp_path)).contents[0] == ""
