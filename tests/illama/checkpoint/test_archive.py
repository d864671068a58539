"""Damaged and hostile files: nothing runs, nothing is allocated, and nothing wrong gets through."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pickle
import random
import resource
import struct
import threading
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from illama.checkpoint.archive import recognise, unpack
from illama.checkpoint.load import read_checkpoint
from illama.checkpoint.save import save_checkpoint
from illama.config import Config
from illama.files import CheckpointError
from illama.model import Model

SMALL = Config(image_size=8, patch_size=4, width=12, heads=2, depth=1, classes=3)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return Model(SMALL)


@pytest.fixture
def payload(model):
    return {"model": model.state_dict(), "args": argparse.Namespace(lr=0.1), "epoch": 3}


def rewrite(source: Path, target: Path, change, **options) -> Path:
    """Copy a zip archive, with every member's bytes passed through `change(name, data)`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for member in old.infolist():
            new.writestr(member.filename, change(member.filename, old.read(member)))
    return target


class Touch:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


HIDDEN = {
    "at the top": lambda evil, _: evil,
    "in the args": lambda evil, payload: {**payload, "args": argparse.Namespace(evil=evil)},
    "as a key": lambda evil, payload: {**payload, "extra": {(evil,): 1}},
    "in the optimizer": lambda evil, payload: {**payload, "optimizer": {"state": [evil]}},
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("place", HIDDEN)
def test_code_in_a_file_never_runs(tmp_path, payload, place, protocol, zipped):
    proof, path = tmp_path / "proof", tmp_path / "evil.pth"
    torch.save(
        HIDDEN[place](Touch(proof), payload),
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(CheckpointError, match=r"system|protocol"):
        read_checkpoint(path)
    assert not proof.exists()


def test_code_in_a_second_pickle_of_the_archive_never_runs(tmp_path, payload):
    proof, path = tmp_path / "proof", tmp_path / "evil.pth"
    torch.save(payload, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(Touch(proof), protocol=2))
    with pytest.raises(CheckpointError, match=r"posix\.system"):
        read_checkpoint(path)
    assert not proof.exists()


def test_a_harmless_unknown_name_is_refused_by_name_with_advice(tmp_path, payload):
    path = tmp_path / "path.pth"
    torch.save({**payload, "args": argparse.Namespace(out=Path("x"))}, path)
    with pytest.raises(CheckpointError, match=r"pathlib\.\w*Path.* save it again"):
        read_checkpoint(path)


def test_a_constructor_that_could_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "bytes.pth"
    torch.save({"model": bytearray(8)}, path)
    with pytest.raises(CheckpointError, match="bytearray"):
        read_checkpoint(path)


def test_no_source_file_falls_back_to_unsafe_loading():
    folder = Path(__file__).resolve().parents[3]
    sources = [*folder.glob("illama/**/*.py"), *folder.glob("illama_eval/**/*.py")]
    assert sources
    for forbidden in ("weights_only=" + "False", "pickle.load(", "pickle.loads(", "extractall("):
        assert not [path for path in sources if forbidden in path.read_text()]


def test_namespace_is_allowed_only_while_a_file_is_read(tmp_path, payload):
    path = tmp_path / "ours.pth"
    torch.save(payload, path)
    unpack(path)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
    with torch.serialization.safe_globals([argparse.Namespace]):
        unpack(path)
        assert argparse.Namespace in torch.serialization.get_safe_globals()


def test_threads_can_read_at_once(tmp_path, payload):
    path = tmp_path / "ours.pth"
    torch.save(payload, path)
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.append(len(unpack(path).payload))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [3] * 8


WORDS = {
    "empty": (b"", "is empty"),
    "web page": (b"\n<!DOCTYPE html><html></html>", "web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "error text": (b'{"error": "not found"}', "not a checkpoint"),
    "other pickle": (pickle.dumps({"a": 1}, protocol=2), "damaged"),
    "other zip": (b"PK\x03\x04 nothing more", "damaged"),
    "cut safetensors": (struct.pack("<Q", 900) + b'{"a":', "damaged"),
}


@pytest.mark.parametrize(("content", "words"), WORDS.values(), ids=WORDS)
def test_other_files_are_named_in_plain_words(tmp_path, content, words):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_files_are_named_in_plain_words(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(tmp_path / "missing.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_checkpoint(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_checkpoint(tmp_path / "pipe")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "file.pth").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match="Permission denied"):
        read_checkpoint(tmp_path / "file.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.zeros(2)], "contains a list"),
        ({}, "has no weights"),
        ({"model": {}, "epoch": 1}, "has no weights, only 'model', 'epoch'"),
        ({"weights": 1.0}, "has no weights, only 'weights'"),
        ({"model": {"a": torch.zeros(1), "b": "text"}}, "entry 'b' is a str"),
        ({"model": {1: torch.zeros(1)}}, "names of weights that are not text"),
    ],
)
def test_files_without_weights_are_named_in_plain_words(tmp_path, content, words):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(tmp_path / "file.pth")


def test_a_compressed_member_is_refused(tmp_path, payload):
    torch.save(payload, tmp_path / "a.pth")
    path = rewrite(
        tmp_path / "a.pth",
        tmp_path / "b.pth",
        lambda _, data: data,
        compression=zipfile.ZIP_DEFLATED,
    )
    with pytest.raises(CheckpointError, match="is compressed"):
        read_checkpoint(path)


def test_a_member_that_stands_twice_is_refused(tmp_path, payload):
    path = tmp_path / "twice.pth"
    torch.save(payload, path)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("twice/data.pkl", b"")
    with pytest.raises(CheckpointError, match="2 times"):
        read_checkpoint(path)


def test_one_changed_byte_in_a_weight_is_a_checksum_mismatch(tmp_path, payload, model):
    path = tmp_path / "flip.pth"
    torch.save(payload, path)
    weight = model.state_dict()["head.weight"].numpy().tobytes()
    data = path.read_bytes()
    place = data.index(weight)
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(CheckpointError, match="checksum mismatch"):
        read_checkpoint(path)


def test_a_weight_that_is_marked_as_a_folder_is_refused(tmp_path, payload):
    path = tmp_path / "folder.pth"
    torch.save(payload, path)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"folder/data/15") - 46
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + 38] = 0x10
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="marked as a folder"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_an_expanded_tensor_is_refused_before_anything_is_allocated(tmp_path, zipped):
    path = tmp_path / "bomb.pth"
    huge = torch.zeros(1).expand(10**10)
    torch.save({"model": {"a": huge}}, path, _use_new_zipfile_serialization=zipped)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="more bytes than the file has"):
        read_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def grow(what: bytes, by: int = 10**9):
    """Return a change that makes the pickle's small number 5 large, once, after `what`."""
    large = b"J" + struct.pack("<i", by)

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return data
        assert data.count(what) == 1
        return data.replace(what, what.replace(b"K\x05", large))

    return change


@pytest.mark.parametrize("what", [b"K\x05\x85", b"K\x05t"], ids=["shape", "storage"])
def test_a_size_beyond_the_data_is_refused_before_anything_is_allocated(tmp_path, what):
    torch.save({"a": torch.ones(5)}, tmp_path / "a.pth")
    path = rewrite(tmp_path / "a.pth", tmp_path / "b.pth", grow(what))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="more bytes than the file has"):
        read_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_arguments_that_contain_each_other_do_not_unfold_without_end(tmp_path, payload):
    nested: list[object] = ["x"]
    for _ in range(60):
        nested = [nested] * 60
    path = tmp_path / "laughs.pth"
    torch.save({**payload, "args": argparse.Namespace(num_heads=2, deep=nested)}, path)
    assert len(str(read_checkpoint(path).args)) < 200_000


def test_the_first_bytes_tell_the_container(tmp_path, model):
    for name, container in (("a.pth", "zip"), ("a.safetensors", "safetensors")):
        save_checkpoint(model, tmp_path / name)
        assert recognise((tmp_path / name).read_bytes()[:64]) == container
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream, _use_new_zipfile_serialization=False)
    assert recognise(stream.getvalue()[:64]) == "legacy"


# Fuzzing: every damaged file is refused by our error, or its weights are the undamaged ones.


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def drop(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.randrange(1, 200)]


def insert(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[start:start] = chance.randbytes(chance.randrange(1, 200))


def overwrite(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    length = min(chance.randrange(1, 400), len(data) - start)
    data[start : start + length] = chance.choice((bytes(length), chance.randbytes(length)))


def move(data: bytearray, chance: random.Random) -> None:
    start, target = chance.randrange(len(data)), chance.randrange(len(data))
    data[target : target + 300] = data[start : start + 300]


def edit_ends(data: bytearray, chance: random.Random) -> None:
    """Flip bits where headers, pickles and directories are."""
    size = min(4000, len(data))
    for _ in range(chance.choice((1, 2))):
        place = chance.randrange(size)
        data[chance.choice((place, -1 - place))] ^= 1 << chance.randrange(8)


DAMAGES = (flip, cut, drop, insert, overwrite, move, edit_ends, edit_ends)


def fuzz(original: Path, count: int, seed: int) -> tuple[int, int]:
    """Return how many of `count` damaged copies were refused, and how many loaded unchanged."""
    chance = random.Random(seed)
    sound, expected = original.read_bytes(), read_checkpoint(original)
    path = original.with_stem("damaged")
    refused = 0
    for _ in range(count):
        data = bytearray(sound)
        chance.choice(DAMAGES)(data, chance)
        path.write_bytes(data)
        with contextlib.suppress(CheckpointError):
            seen = read_checkpoint(path)
            assert seen.sha256 == expected.sha256
            assert seen.model.config == expected.model.config
            assert seen.soft_mask == expected.soft_mask
            continue
        refused += 1
    return refused, count - refused


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "count", [100, pytest.param(1000, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_damaged_files_are_refused_or_equal(tmp_path, model, suffix, count):
    path = tmp_path / f"sound{suffix}"
    save_checkpoint(model, path, soft_mask=0.5, epoch=3, args={"lr": 0.1})
    refused, _ = fuzz(path, count, seed=count)
    assert refused > count // 3


def test_a_file_cut_anywhere_is_refused(tmp_path, model):
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"sound{suffix}"
        save_checkpoint(model, path)
        data = path.read_bytes()
        for part in range(20):
            path.write_bytes(data[: len(data) * part // 20])
            with pytest.raises(CheckpointError):
                read_checkpoint(path)


def test_a_damaged_legacy_file_never_raises_anything_else(tmp_path, model):
    path, chance = tmp_path / "old.pth", random.Random(1)
    torch.save(OrderedDict(model.state_dict()), path, _use_new_zipfile_serialization=False)
    sound = path.read_bytes()
    for _ in range(40):
        data = bytearray(sound)
        chance.choice(DAMAGES)(data, chance)
        path.write_bytes(data)
        with contextlib.suppress(CheckpointError):
            assert any(
                "cannot be verified" in note for note in read_checkpoint(path, heads=2).notes
            )
