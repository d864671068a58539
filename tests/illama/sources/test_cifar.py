from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from illama.sources import open_source
from illama.sources.head import for_head
from illama.sources.source import SourceError

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
ROWS = np.random.default_rng(0).integers(0, 256, (4, 3072), np.uint8)
LABELS = [3, 0, 9, 1]
NAMES = [f"class{i}" for i in range(10)]


def write_python(folder: Path, *, protocol: int = 2, **changes: object) -> Path:
    folder.mkdir(parents=True)
    for name in ("test_batch", *(f"data_batch_{k}" for k in range(1, 6))):
        batch = {b"data": ROWS, b"labels": LABELS} | {k.encode(): v for k, v in changes.items()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol))
    meta = {"label_names": NAMES}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol))
    return folder


def write_binary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("test_batch", *(f"data_batch_{k}" for k in range(1, 6))):
        records = np.concatenate([np.uint8(LABELS)[:, None], ROWS], axis=1)
        records.tofile(folder / f"{name}.bin")
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return folder


@pytest.mark.parametrize("protocol", range(6))
def test_both_releases_are_the_same_set(tmp_path, protocol):
    python = open_source(str(write_python(tmp_path / "python", protocol=protocol)))
    binary = open_source(str(write_binary(tmp_path / "binary")))
    for source in (python, binary):
        assert (source.name, source.split, source.in_memory) == ("cifar10", "test", True)
        assert source.ids == tuple(f"test/{i:05d}" for i in range(4))
        assert source.labels.tolist() == LABELS
        assert source.classes == tuple(NAMES)
        # channel, row, column on disk
        assert (source.read(2) == ROWS[2].reshape(3, 32, 32).transpose(1, 2, 0)).all()
    assert python.fingerprint == binary.fingerprint


def test_training_batches_are_joined_in_order(tmp_path):
    source = open_source(str(write_binary(tmp_path / "binary")), split="train")
    assert source.ids == tuple(f"train/{i:05d}" for i in range(20))
    assert source.labels.tolist() == LABELS * 5


def test_the_binary_release_is_preferred_in_their_parent(tmp_path):
    hostile = tmp_path / "cifar-10-batches-py"
    hostile.mkdir()
    (hostile / "test_batch").write_bytes(b"not even read")
    write_binary(tmp_path / "cifar-10-batches-bin")
    assert len(open_source(str(tmp_path))) == 4


def test_cifar100_uses_the_fine_labels(tmp_path):
    binary, python = tmp_path / "cifar-100-binary", tmp_path / "other"
    for folder in (binary, python):
        folder.mkdir()
    pairs = np.uint8([[1, 99], [0, 3], [1, 4], [2, 0]])
    np.concatenate([pairs, ROWS], axis=1).tofile(binary / "test.bin")
    batch = {"data": ROWS, "fine_labels": [99, 3, 4, 0], "coarse_labels": [1, 0, 1, 2]}
    (python / "test").write_bytes(pickle.dumps(batch))
    (python / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}))
    sources = [open_source(str(folder)) for folder in (binary, python)]
    assert [source.labels.tolist() for source in sources] == [[99, 3, 4, 0]] * 2
    assert sources[0].fingerprint == sources[1].fingerprint
    assert for_head(sources[0], 100).classes == tuple(str(i) for i in range(100))
    write_binary(tmp_path / "cifar-10-batches-bin")
    with pytest.raises(SourceError, match="contains both CIFAR-10 and CIFAR-100"):
        open_source(str(tmp_path))


def test_the_names_find_the_releases_under_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("ILLAMA_DATA", raising=False)
    with pytest.raises(SourceError, match="cifar10: ILLAMA_DATA is not set"):
        open_source("cifar10")
    release = write_binary(tmp_path / "sets" / "cifar10" / "cifar-10-batches-bin")
    for data in (release, release.parent, release.parent.parent):
        monkeypatch.setenv("ILLAMA_DATA", str(data))
        assert len(open_source("cifar10")) == 4
        with pytest.raises(SourceError, match="no CIFAR-100 release"):
            open_source("cifar100")


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def hide(kind: str, hostile: Hostile) -> object:
    array = np.empty(1, object)
    array[0] = hostile
    return {
        "top": hostile,
        "value": {b"data": ROWS, b"labels": hostile},
        "key": {(1, hostile): 0},
        "array": {b"data": array, b"labels": [1]},
    }[kind]


@pytest.mark.parametrize("kind", ["top", "value", "array"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("name", ["test_batch", "batches.meta"])
def test_nothing_in_a_hostile_pickle_runs(tmp_path, kind, protocol, name):
    folder = write_python(tmp_path / "release")
    data = pickle.dumps(hide(kind, Hostile(tmp_path / "marker")), protocol)
    (folder / name).write_bytes(data)
    with pytest.raises(SourceError, match=r"uses \w+\.system, which is not allowed"):
        open_source(str(folder))
    assert not (tmp_path / "marker").exists()


def test_the_marker_would_have_appeared(tmp_path):
    """The hostile file is a real one: an ordinary unpickler runs it."""
    path = tmp_path / "hostile"
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "marker")))
    load = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", load, str(path)], check=True)
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "name", ["builtins.eval", "builtins.getattr", "numpy.load", "numpy.fromfile", "io.open"]
)
def test_no_other_name_is_let_in(tmp_path, name):
    module, attribute = name.split(".")
    folder = write_python(tmp_path / "release")
    (folder / "test_batch").write_bytes(f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(SourceError, match="not allowed"):
        open_source(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ROWS[:, :-1]}, r"uint8 \[images, 3072\]"),
        ({"data": ROWS.astype(np.int64)}, r"uint8 \[images, 3072\]"),
        ({"data": None}, r"uint8 \[images, 3072\]"),
        ({"labels": [1, 2, 3]}, "one of 'labels' per image"),
        ({"labels": None}, "one of 'labels' per image"),
        ({"labels": [1, 2, 3, 10]}, "a label is not in 0..9"),
        ({"labels": [1, 2, 3, -1]}, "a label is not in 0..9"),
        ({"labels": [1, 2, 3, 1.5]}, "a label is not in 0..9"),
    ],
)
def test_batches_of_another_shape_or_label_are_refused(tmp_path, changes, message):
    with pytest.raises(SourceError, match=message):
        open_source(str(write_python(tmp_path / "release", **changes)))


@pytest.mark.parametrize("keep", [0, 1, 1000])
def test_damaged_releases_are_refused(tmp_path, keep):
    for folder, part in (
        (write_python(tmp_path / "python"), "test_batch"),
        (write_binary(tmp_path / "binary"), "test_batch.bin"),
    ):
        path = folder / part
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(SourceError, match="unpack it again"):
            open_source(str(folder))


def test_a_missing_part_and_an_unknown_split_are_refused(tmp_path):
    folder = write_binary(tmp_path / "binary")
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(SourceError, match=r"data_batch_3\.bin cannot be read"):
        open_source(str(folder), split="train")
    with pytest.raises(SourceError, match="no split 'val'; it has test and train"):
        open_source(str(folder), split="val")


def test_a_binary_label_out_of_range_is_refused(tmp_path):
    folder = write_binary(tmp_path / "binary")
    data = bytearray((folder / "test_batch.bin").read_bytes())
    data[3073] = 10
    (folder / "test_batch.bin").write_bytes(bytes(data))
    with pytest.raises(SourceError, match="label 10 of 'test/00001' is outside its 10 classes"):
        open_source(str(folder))


def test_a_release_without_its_meta_file_has_numbers_for_names(tmp_path):
    folder = write_binary(tmp_path / "binary")
    (folder / "batches.meta.txt").unlink()
    assert open_source(str(folder)).classes == tuple("0123456789")


@pytest.mark.data
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_the_real_releases_are_the_same_set(tmp_path):
    unpack = SHARED / "cifar10" / "unpack.py"
    for option in ([], ["--binary"]):
        subprocess.run(
            [sys.executable, unpack, tmp_path, *option], check=True, stdout=subprocess.DEVNULL
        )
    archive = np.load(SHARED / "cifar10" / "cifar10_full_jpeg.npz", allow_pickle=False)
    for split, images in (("test", 10_000), ("train", 50_000)):
        python, binary = (
            open_source(str(tmp_path / f"cifar-10-batches-{kind}"), split=split)
            for kind in ("py", "bin")
        )
        assert len(python) == images
        assert python.ids == binary.ids
        assert python.classes == binary.classes
        assert python.fingerprint == binary.fingerprint
        assert (python.labels == binary.labels).all()
        assert (python.labels == archive[f"y_{split}"]).all()
        for position in range(0, images, 997):
            assert (python.read(position) == binary.read(position)).all()
