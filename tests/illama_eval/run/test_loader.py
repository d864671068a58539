from __future__ import annotations

import hashlib
import os
import pickle
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from illama.distributed import World
from illama.transforms import Transform
from illama.workers import LoaderError
from illama_eval.bootstrap import weights_for
from illama_eval.run.loader import ImageReader
from illama_eval.run.loop import observe_source

LOGITS = frozenset({"logits"})


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_the_shards_together_see_every_image_once(
    world: int, brightness: Callable[..., Any], levels: Callable[..., Any], see: Callable[..., Any]
) -> None:
    parts = [
        see(brightness(), levels(), batch_size=4, world=World(rank, world)) for rank in range(world)
    ]
    assert sorted(pair for part in parts for pair in part) == [(i, float(i)) for i in range(20)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unexpected_error_while_reading_reaches_the_caller(
    workers: int,
    brightness: Callable[..., Any],
    levels: Callable[..., Any],
    see: Callable[..., Any],
) -> None:
    source = levels()
    object.__setattr__(source, "read", lambda position: np.full(3, 1 // (9 - position)))
    with pytest.raises(ZeroDivisionError):
        see(brightness(), source, batch_size=4, workers=workers)


def test_two_subjects_share_one_reading_of_each_image(
    brightness: Callable[..., Any], levels: Callable[..., Any], first_logits: Callable[..., Any]
) -> None:
    reads: list[int] = []
    source = levels()
    read = source.read

    def count(position: int) -> np.ndarray:
        reads.append(position)
        return read(position)

    object.__setattr__(source, "read", count)
    prepared: list[int] = []

    def prepare(image: np.ndarray) -> Tensor:
        prepared.append(int(image.max()))
        return torch.tensor(float(image.mean()))

    subjects = [brightness(name="a"), brightness(name="b")]
    for subject in subjects:
        subject.prepare = prepare
    list(observe_source(subjects, source, LOGITS, first_logits, batch_size=6))
    assert sorted(reads) == sorted(prepared) == list(range(20))
    assert [sum(subject.passes) for subject in subjects] == [20, 20]


def test_transforms_that_differ_in_colours_alone_share_one_geometry(
    levels: Callable[..., Any],
) -> None:
    one = Transform(image_size=4, resize="direct")
    grey, large = replace(one, mean=(0.5, 0.5, 0.5)), replace(one, image_size=8)
    reader = ImageReader(levels(), (one, grey, large))
    assert reader.input_of == (0, 0, 1)
    loaded = reader[np.array([3, 5])]
    assert [each.shape[2:] for each in loaded.inputs] == [(4, 4), (8, 8)]
    assert all(each.dtype == torch.uint8 for each in loaded.inputs)
    assert loaded.inputs[0].flatten(1).unique(dim=1).tolist() == [[3], [5]]


def test_background_goes_through_the_geometry_of_its_image(levels: Callable[..., Any]) -> None:
    masks = np.random.default_rng(0).integers(0, 3, (20, 12, 18)).astype(np.uint8).repeat(4, 1)
    shown = replace(
        levels(),
        read=lambda position: (
            np.where(masks[position] == 1, 255, 0).astype(np.uint8)[..., None]
            * np.ones(3, np.uint8)
        ),
        masks=lambda position: masks[position],
        background=(1,),
    )
    ways = (
        Transform(image_size=8, resize="short-side"),
        Transform(image_size=16, resize="warp", interpolation="bilinear"),
    )
    loaded = ImageReader(shown, ways, background=True)[np.arange(5)]
    for image, background in zip(loaded.inputs, loaded.background, strict=True):
        assert torch.equal(background, image[:, 0] > 127)
    assert [each.shape for each in loaded.part(1, 2).background] == [(2, 8, 8), (2, 16, 16)]
    assert loaded.masks is None
    assert ImageReader(shown, ways)[np.arange(5)].background == ()


def test_a_batch_comes_with_the_weights_of_its_images(levels: Callable[..., Any]) -> None:
    source = levels(broken=[1])
    reader = pickle.loads(
        pickle.dumps(ImageReader(source, (Transform(image_size=4, resize="direct"),)))
    )
    loaded = reader[np.array([0, 1, 7])]
    assert loaded.positions.tolist() == loaded.index.tolist() == [0, 7]
    assert torch.equal(loaded.weights.double(), weights_for([source.ids[0], source.ids[7]], None))
    assert loaded.part(1, 1).weights.shape == (201, 1)
    assert reader[np.array([1])].inputs[0].numel() == 0


def test_a_killed_worker_is_an_error_in_one_line(
    brightness: Callable[..., Any], levels: Callable[..., Any], see: Callable[..., Any]
) -> None:
    source = levels()
    object.__setattr__(source, "read", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(LoaderError, match=r"a loader worker ended or hung .*fewer --workers"):
        see(brightness(), source, batch_size=10, workers=1)


def test_a_second_run_decodes_no_image_again_whatever_the_colours(
    levels: Callable[..., Any], tmp_path: Path
) -> None:
    def hashes(positions: Sequence[int]) -> list[str]:
        return [hashlib.sha256(bytes([position])).hexdigest() for position in positions]

    source, positions = levels(broken=[4]), np.arange(20)
    object.__setattr__(source, "hash_contents", hashes)
    one = Transform(image_size=4, resize="direct")
    first = ImageReader(source, (one,), cache=tmp_path)[positions]
    reads: list[int] = []
    again = replace(source, read=lambda position: reads.append(position) or source.read(position))
    second = ImageReader(again, (replace(one, std=(0.5, 0.5, 0.5)),), cache=tmp_path)[positions]
    assert torch.equal(first.inputs[0], second.inputs[0])
    assert first.unreadable == second.unreadable
    assert reads == [4]
