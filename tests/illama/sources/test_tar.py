from __future__ import annotations

import gzip
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from illama.sources import open_source
from illama.sources.source import SourceError
from illama.transforms import ImageError


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def reds(source) -> list[int]:
    return [int(source.read(i)[0, 0, 0]) for i in range(len(source))]


def test_pairs_are_joined_by_their_key(tmp_path):
    write(
        tmp_path / "a-0.tar",
        {
            "x.png": png(1),
            "x.cls": b"7\n",
            "y.cls": b"0",
            "y.seg.png": b"?",
            "y.json": b"{}",
            "y.png": png(2),
        },
    )
    write(tmp_path / "a-1.tar", {"x.cls": b" 3", "x.png": png(3)})
    source = open_source(str(tmp_path))
    assert source.ids == ("a-0/x", "a-0/y", "a-1/x")
    assert source.labels.tolist() == [7, 0, 3]
    assert source.classes is None
    assert (source.in_memory, source.split) == (False, "all")
    assert reds(source) == [1, 2, 3]
    assert reds(open_source(str(tmp_path / "a-1.tar"))) == [3]


def test_directories_are_classes_over_all_shards(tmp_path):
    write(tmp_path / "s0.tar", {"./val/dog/a.b.png": png(1), "./val/._hidden.png": b""})
    write(tmp_path / "s1.tar", {"val/cat/a.png": png(2), "val/cat/deep/a.jpg": png(3)})
    source = open_source(str(tmp_path))
    assert source.ids == ("s0/val/dog/a.b", "s1/val/cat/a", "s1/val/cat/deep/a")
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [1, 0, 0]
    assert reds(source) == [1, 2, 3]


def test_a_flat_archive_is_unlabeled_or_labeled_by_a_table(tmp_path):
    path = write(tmp_path / "s.tar", {"a.png": png(1), "b.png": png(2)})
    assert open_source(str(path)).labels is None
    table = tmp_path / "labels.csv"
    table.write_text("file,label\nb.png,4\n")
    source = open_source(str(path), labels=table)
    assert (source.ids, source.labels.tolist(), reds(source)) == (("s/b",), [4], [2])


def test_the_split_is_found_in_shard_names_folders_and_archives(tmp_path):
    pair = {"x.cls": b"1"}
    write(tmp_path / "named" / "set-train-0.tar", {"x.png": png(1), **pair})
    write(tmp_path / "named" / "set-validation-0.tar", {"x.png": png(2), **pair})
    write(tmp_path / "folders" / "train" / "0.tar", {"x.png": png(1), **pair})
    write(tmp_path / "folders" / "val" / "0.tar", {"x.png": png(2), **pair})
    inside = {"set/train/cat/x.png": png(1), "set/val/cat/x.png": png(2)}
    write(tmp_path / "inside" / "0.tar", inside)
    for layout, name in (("named", "validation"), ("folders", "val"), ("inside", "val")):
        test, train = (open_source(str(tmp_path / layout), split=s) for s in ("test", "train"))
        assert (reds(test), test.split) == ([2], name)
        assert (reds(train), train.split) == ([1], "train")
    with pytest.raises(SourceError, match="no split 'other'"):
        open_source(str(tmp_path / "named"), split="other")


def test_an_archive_left_beside_its_images_is_not_taken_for_them(tmp_path, save):
    save(tmp_path / "cat" / "x.png", 5)
    write(tmp_path / "cat.tar", {"x.png": png(9)})
    assert reds(open_source(str(tmp_path))) == [5]


def test_names_that_lead_elsewhere_are_harmless(tmp_path):
    members = {"../../up/out.png": png(1), "/etc/x.png": png(2), "a/../b/./c.png": png(3)}
    source = open_source(str(write(tmp_path / "deep" / "s.tar", members)))
    assert source.ids == ("s/up/out", "s/etc/x", "s/a/b/c")
    assert reds(source) == [1, 2, 3]


def test_pickles_among_the_members_are_never_read(tmp_path):
    members = {"x.png": png(1), "x.cls": b"1", "x.pyd": b"cos\nsystem\n.", "x.pkl": b"?"}
    assert reds(open_source(str(write(tmp_path / "s.tar", members)))) == [1]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_are_refused_not_followed(tmp_path, kind):
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("a/x.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(SourceError, match="is not a regular file"):
        open_source(str(path))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"x.png": png(1), "y.png": png(1), "x.cls": b"1"}, "'y' is not a pair"),
        ({"x.png": png(1), "x.cls": b"1", "y.cls": b"1"}, "'y' is not a pair"),
        ({"x.png": png(1), "x.cls": b"cat"}, "is not a whole number"),
        ({"x.png": png(1), "x.cls": b"-1"}, "is not a whole number"),
        ({"x.png": png(1), "x.cls": b"1" * 40}, "is not a whole number"),
        ({"x.png": png(1), "x.jpg": png(1), "x.cls": b"1"}, "have the id 's/x'"),
        ({"notes.txt": b""}, "no images"),
        ({"a/x.png": png(1), "y.png": png(1)}, "next to the class folders"),
    ],
)
def test_archives_that_make_no_sense_are_refused(tmp_path, members, message):
    with pytest.raises(SourceError, match=message):
        open_source(str(write(tmp_path / "s.tar", members)))


def test_a_shard_cut_off_anywhere_is_refused_not_shortened(tmp_path):
    path = write(tmp_path / "s.tar", {f"c{i % 2}/{i}.png": png(i) for i in range(6)})
    data = path.read_bytes()
    end = data.rindex(png(5)) + 512
    for keep in range(0, end, 256):
        path.write_bytes(data[:keep])
        with pytest.raises(SourceError, match=r"s\.tar is (damaged|not a plain tar)"):
            open_source(str(path))


def test_a_damaged_header_in_the_middle_is_refused(tmp_path):
    path = write(tmp_path / "s.tar", {f"c{i % 2}/{i}.png": png(i) for i in range(6)})
    data = bytearray(path.read_bytes())
    data[data.index(b"c1/3.png") + 100] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(SourceError, match="damaged or cut off"):
        open_source(str(path))


def test_a_member_of_negative_size_does_not_loop_for_ever(tmp_path):
    member = tarfile.TarInfo("notes.txt")
    member.size = -1024
    path = tmp_path / "s.tar"
    path.write_bytes(bytes(member.tobuf(tarfile.GNU_FORMAT)) * 3 + bytes(1024))
    with pytest.raises(SourceError, match=r"s\.tar is (damaged|not a plain tar)"):
        open_source(str(path))


def test_a_compressed_archive_is_refused_with_what_to_do(tmp_path):
    path = write(tmp_path / "s.tar", {"x.png": png(1)})
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(SourceError, match=r"not a plain tar archive \(.*uncompress it"):
        open_source(str(path))


def test_a_shard_that_shrinks_or_vanishes_gives_unreadable_images(tmp_path):
    path = write(tmp_path / "s.tar", {"a/x.png": png(1), "b/y.png": png(2)})
    read = pickle.loads(pickle.dumps(open_source(str(path)).read))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ImageError):
        read(1)
    path.unlink()
    with pytest.raises(ImageError, match="cannot be read"):
        read(0)


def test_the_fingerprint_uses_labels_and_contents(tmp_path):
    members = [
        {"x.bmp": b"1", "x.cls": b"1"},
        {"x.bmp": b"1", "x.cls": b"2"},
        {"x.bmp": b"2", "x.cls": b"1"},
    ]
    opened = [
        open_source(str(write(tmp_path / str(i) / "s.tar", m))) for i, m in enumerate(members)
    ]
    assert len({each.fingerprint for each in opened}) == 3


def test_joined_archives_are_read_to_the_end(tmp_path):
    parts = [write(tmp_path / f"{i}.tar", {f"c{i}/{i}.png": png(i)}) for i in range(3)]
    joined = tmp_path / "joined" / "s.tar"
    joined.parent.mkdir()
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    source = open_source(str(joined))
    assert (source.classes, reds(source)) == (("c0", "c1", "c2"), [0, 1, 2])
    joined.write_bytes(joined.read_bytes() + b"rubbish" * 80)
    with pytest.raises(SourceError, match=r"s\.tar is (damaged|not a plain tar)"):
        open_source(str(joined))


def test_members_that_are_no_images_are_counted(tmp_path):
    members = {
        "x.png": png(1),
        "x.cls": b"1",
        "x.json": b"{}",
        "x.seg.png": b"",
        "@eaDir/x.png": b"",
    }
    source = open_source(str(write(tmp_path / "s.tar", members)))
    assert {each[:2] for each in source.left_out} == {
        (".json", 1),
        (".seg.png", 1),
        ("in hidden folders", 1),
    }


def test_an_archive_for_each_class_is_numbered_by_wordnet_ids_or_noted(tmp_path):
    for folder, names in (("wnids", ("n01440764", "n01443537")), ("named", ("cat", "dog"))):
        for number, name in enumerate(names):
            write(tmp_path / folder / f"{name}.tar", {f"{number}.png": png(number)})
    source = open_source(str(tmp_path / "wnids"))
    assert (source.classes, source.labels.tolist()) == (("n01440764", "n01443537"), [0, 1])
    source = open_source(str(tmp_path / "named"))
    assert source.labels is None
    assert "2 archives without labels; if each is one class, unpack each" in source.notes[0]


def test_labels_in_json_members_are_named(tmp_path):
    members = {"x.png": png(1), "x.json": b'{"label": 3}'}
    source = open_source(str(write(tmp_path / "s.tar", members)))
    assert "labels in .json members are not read; store each as KEY.cls" in source.notes[0]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_gives_a_source_or_our_error_and_nothing_else(tmp_path_factory, damage):
    path = tmp_path_factory.mktemp("tar") / "s.tar"
    write(path, {"a/x.png": png(1), "b/y.png": png(2)})
    data = bytearray(path.read_bytes()[:5120])
    for place, value in damage:
        data[int(place * (len(data) - 1))] = value
    path.write_bytes(bytes(data))
    try:
        source = open_source(str(path))
        assert all(source.read(i).dtype == np.uint8 for i in range(len(source)))
    except (SourceError, ImageError):
        pass
