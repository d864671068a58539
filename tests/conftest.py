"""One thread, so that float sums are the same on every machine and workers do not fight."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from types import ModuleType

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def reference(name: str) -> ModuleType:
    """Return a module of timm or torchvision, or skip; they are the references of some tests.

    A torchvision built for a GPU does not import beside a torch built for the CPU, for want of two
    operators that nothing here calls: then they get a name.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as missing:
            pytest.skip(f"{missing.name} is not installed; it is the reference of this test")
        except RuntimeError:
            for module in [m for m in sys.modules if m.startswith(("torchvision", "timm"))]:
                del sys.modules[module]
        if not _OPERATORS:
            _OPERATORS.append(torch.library.Library("torchvision", "DEF"))
            for operation in ("nms", "qnms"):
                _OPERATORS[0].define(
                    f"{operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
        return importlib.import_module(name)


_OPERATORS: list[torch.library.Library] = []


@pytest.fixture(scope="session", name="reference")
def _reference() -> Callable[[str], ModuleType]:
    """Return the function that imports a reference, or skips the test."""
    return reference


@pytest.fixture(scope="session")
def golden_checkpoint() -> Path:
    """Return the official-layout checkpoint with random weights: 64 px, 17 tokens, 10 classes."""
    return ROOT / "tests" / "golden" / "official_micro.pth"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data; tests that ask for it carry the marker `data`."""
    if not SHARED.is_dir():
        pytest.skip("the real data of ../shared is not on this machine")
    return SHARED


@pytest.fixture(scope="session")
def small_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an .npz of 61 labelled noise images, 64 px, 10 classes."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("images") / "noise.npz"
    np.savez(
        path,
        images=random.integers(0, 256, (61, 64, 64, 3), dtype=np.uint8),
        labels=random.integers(0, 10, 61),
        ids=np.array([f"noise/{i:03d}" for i in range(61)]),
    )
    return path
