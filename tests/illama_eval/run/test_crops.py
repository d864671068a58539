"""Kept crops are those of the images as they are, or they are not used."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from illama.transforms import Geometry
from illama_eval.results import ResultError
from illama_eval.run import crops
from illama_eval.run.crops import CropCache

GEOMETRY = Geometry(image_size=8, resize="direct", interpolation="bicubic", crop_ratio=0.875)
CONTENTS = [hashlib.sha256(bytes([number])).hexdigest() for number in range(6)]
CROPS = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.manual_seed(0))


def filled(root: Path, positions: range = range(6)) -> CropCache:
    cache = CropCache(root, GEOMETRY, CONTENTS)
    for position in positions:
        assert cache.read(position) is None
        cache.write(position, CROPS[position])
    return CropCache(root, GEOMETRY, CONTENTS)


def same(found: Tensor | None, expected: Tensor) -> bool:
    return found is not None and torch.equal(found, expected)


def test_what_is_kept_is_found_by_content_wherever_the_image_is(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    assert cache.kept == 6
    assert all(same(cache.read(i), CROPS[i]) for i in range(6))
    turned = CropCache(tmp_path, GEOMETRY, CONTENTS[::-1])
    assert all(same(turned.read(i), CROPS[5 - i]) for i in range(6))


def test_runs_over_parts_of_the_images_add_up(tmp_path: Path) -> None:
    filled(tmp_path, range(2))
    cache = filled(tmp_path, range(2, 4))
    assert [cache.read(i) is not None for i in range(6)] == [True] * 4 + [False] * 2


def test_a_changed_image_another_geometry_and_another_decoder_find_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)
    changed = [hashlib.sha256(b"changed").hexdigest(), *CONTENTS[1:]]
    assert CropCache(tmp_path, GEOMETRY, changed).read(0) is None
    assert CropCache(tmp_path, replace(GEOMETRY, resize="warp"), CONTENTS).kept == 0
    monkeypatch.setattr(crops.PIL, "__version__", "0.1")
    assert CropCache(tmp_path, GEOMETRY, CONTENTS).kept == 0


def test_a_damaged_crop_is_not_used_and_is_replaced(tmp_path: Path) -> None:
    filled(tmp_path)
    (shard,) = tmp_path.rglob("*.crops")
    pixels = np.memmap(shard, np.uint8, "r+", shape=(6, 3, 8, 8))
    pixels[2, 1, 4, 4] ^= 1
    pixels.flush()
    cache = CropCache(tmp_path, GEOMETRY, CONTENTS)
    assert cache.read(2) is None
    assert same(cache.read(3), CROPS[3])
    cache.write(2, CROPS[2])
    assert same(CropCache(tmp_path, GEOMETRY, CONTENTS).read(2), CROPS[2])


@pytest.mark.parametrize("suffix", ["crops", "entries"])
@pytest.mark.parametrize("lost", [1, 100])
def test_files_that_were_cut_off_give_what_is_whole(tmp_path: Path, suffix: str, lost: int) -> None:
    filled(tmp_path)
    (path,) = tmp_path.rglob(f"*.{suffix}")
    path.write_bytes(path.read_bytes()[:-lost])
    cache = CropCache(tmp_path, GEOMETRY, CONTENTS)
    found = [cache.read(i) for i in range(6)]
    assert found[0] is not None
    assert found[-1] is None
    assert all(
        each is None or torch.equal(each, crop) for each, crop in zip(found, CROPS, strict=True)
    )


@pytest.mark.parametrize("suffix", ["crops", "entries"])
def test_a_lost_file_is_nothing_kept(tmp_path: Path, suffix: str) -> None:
    filled(tmp_path)
    (path,) = tmp_path.rglob(f"*.{suffix}")
    path.unlink()
    assert CropCache(tmp_path, GEOMETRY, CONTENTS).kept == 0


def test_images_without_a_hash_are_not_kept(tmp_path: Path) -> None:
    cache = CropCache(tmp_path, GEOMETRY, ["", 1, "photo-3"])
    for position in range(3):
        cache.write(position, CROPS[position])
    assert CropCache(tmp_path, GEOMETRY, ["", 1, "photo-3"]).kept == 0
    assert not list(tmp_path.rglob("*.crops"))


def test_a_full_disk_is_noted_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = CropCache(tmp_path, GEOMETRY, CONTENTS)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", fail)
    cache.write(0, CROPS[0])
    cache.write(1, CROPS[1])
    assert capsys.readouterr().err.count("No space left on device; no more crops are kept") == 1


def test_a_folder_that_cannot_be_made_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match=r"--cache .*file: cannot be made .*another folder"):
        CropCache(tmp_path / "file", GEOMETRY, CONTENTS)
