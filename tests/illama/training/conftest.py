"""Small trainings: images that are drawn, a recipe of a few steps, and signals in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from illama.config import SIZES
from illama.sources.contents import hash_pixels
from illama.sources.demo import draw
from illama.sources.source import Source, make_source
from illama.training.loop import Execution, Trained, fit
from illama.training.recipe import Recipe, find_recipe
from illama.training.trainer import Trainer
from illama.transforms import ImageError

MICRO_SETTINGS = (
    *("size=micro", "image_size=8", "epochs=4", "batch_size=20", "cutoff_soft=1", "lr=2e-3"),
    *("ema=0.9", "drop_path=0.2", "mixup=0.2", "crop_padding=1", "flip=0.5", "micro_batch=8"),
)


draw_once = cache(draw)


@pytest.fixture(scope="session")
def small_source() -> Callable[..., Source]:
    """Return a function that makes a source of the demo's pictures."""

    def make(split: str = "train", images: int = 50, **changes: object) -> Source:
        drawn = draw_once(split, images)
        given = {
            "name": "small",
            "split": split,
            "names": [f"{split}/{i}" for i in range(images)],
            "labels": drawn.labels,
            "contents": hash_pixels(drawn),
            "read": drawn.__getitem__,
            "in_memory": True,
        }
        return make_source(**{**given, **changes})

    return make


@pytest.fixture(scope="session")
def numbered_source() -> Callable[..., Source]:
    """Return a function that makes a source whose image at position i is filled with i."""

    def make(images: int = 50, broken: tuple[int, ...] = ()) -> Source:
        def read(position: int) -> NDArray[np.uint8]:
            if position in broken:
                raise ImageError("half a picture")
            return np.full((8, 8, 3), position, np.uint8)

        return make_source(
            name="numbers",
            split="train",
            names=[str(i) for i in range(images)],
            labels=np.arange(images) % 10,
            contents=list(range(images)),
            read=read,
        )

    return make


@pytest.fixture(scope="session")
def show() -> Callable[[NDArray[np.uint8], np.random.Generator], Tensor]:
    """Return a function that turns an image into its first pixel, moved by chance."""
    return lambda image, random: torch.from_numpy(image[0, 0].copy()).float() + random.random() / 2


@pytest.fixture(scope="module", autouse=True)
def micro_size() -> Iterator[None]:
    """Let recipes name a size that trains, and whose checkpoints are written, in no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "micro", {"width": 8, "depth": 2, "heads": 2, "patch_size": 4})
        yield


@pytest.fixture(scope="session")
def micro_settings() -> tuple[str, ...]:
    """Return the settings of a recipe of eight steps."""
    return MICRO_SETTINGS


@pytest.fixture(scope="session")
def micro_recipe() -> Recipe:
    """Return a recipe of eight steps with everything in it that could differ after resuming."""
    return find_recipe("demo").override([*MICRO_SETTINGS, "dtype=fp16"])


@pytest.fixture(scope="module")
def train(
    micro_recipe: Recipe, small_source: Callable[..., Source]
) -> Callable[..., tuple[Trained, str]]:
    """Return a function that trains, saving each step; it returns the result and what was said."""

    def run(out: Path, recipe: Recipe = micro_recipe, **execution: object) -> tuple[Trained, str]:
        said = StringIO()
        how = replace(Execution(save_steps=1, keep=30), **execution)
        console = Console(file=said, width=500)
        sources = (small_source(), small_source("test", 20))
        result = fit(recipe, *sources, out, execution=how, console=console)
        return result, said.getvalue()

    return run


@pytest.fixture(scope="module")
def whole(
    train: Callable[..., tuple[Trained, str]], tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """Return a training that nothing has interrupted."""
    return train(tmp_path_factory.mktemp("whole") / "small")[0]


@pytest.fixture(scope="session")
def interrupt() -> Callable[..., None]:
    """Return a function that lets the process receive a signal inside an optimizer step."""

    def patch(monkeypatch: pytest.MonkeyPatch, after: int, number: int = signal.SIGTERM) -> None:
        take = Trainer.take_step

        def taken(self: Trainer, step: int, *given: object) -> object:
            if step == after:
                os.kill(os.getpid(), number)
            return take(self, step, *given)

        monkeypatch.setattr(Trainer, "take_step", taken)

    return patch
