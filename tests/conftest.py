"""One thread, so that float sums are the same on every machine and workers do not fight.

Examples of properties are the same in every run, and a slow machine fails none of them.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import socket
import sys
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import xdist

gc.disable()  # until all tests are collected: imports leave no garbage

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Prepare a process that runs tests; the one that only hands them out waits for no torch."""
    if xdist.is_xdist_controller(session):
        return
    import torch
    from hypothesis import settings

    torch.set_num_threads(1)
    settings.register_profile("tests", deadline=None, derandomize=True, max_examples=40)
    settings.load_profile("tests")


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
            import torch

            _OPERATORS.append(torch.library.Library("torchvision", "DEF"))
            for operation in ("nms", "qnms"):
                _OPERATORS[0].define(
                    f"{operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
        return importlib.import_module(name)


_OPERATORS: list[Any] = []
"""The library of the names, which go with it."""


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


@pytest.fixture(scope="session", autouse=True)
def made_once() -> Iterator[None]:
    """Make bundled sources and each command line once a worker: they are always the same."""
    import typer

    from illama import sources

    with pytest.MonkeyPatch.context() as patch:
        for name in ("demo", "demo-shapes", "digits", "photos"):
            patch.setitem(sources._NAMED, name, cache(sources._NAMED[name]))
        patch.setattr("typer.main.get_command", cache(typer.main.get_command))
        yield


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


MEANWHILE = 100
"""Tests that run while the process that others are forks of loads torch."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files that start processes together and to the front: the first worker runs them."""
    starting = {item.path for item in items if _starts(item)}
    others = [item for item in items if item.path not in starting]
    together = [item for item in items if item.path in starting]
    items[:] = [*others[:MEANWHILE], *together, *others[MEANWHILE:]]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave what imports and collection made out of every search for garbage in the tests.

    Where processes will be started, begin with the one that they are forks of.
    """
    gc.freeze()
    gc.enable()
    if xdist.get_xdist_worker_id(session) in {"master", "gw0"} and any(map(_starts, session.items)):
        forkserver.ensure_running()


def _starts(item: pytest.Item) -> bool:
    return "start" in getattr(item, "fixturenames", ())


MOST_WORKERS = 4
"""Processes that the tests are spread over, at most: each holds torch."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one worker per core for folders of tests; none, with nothing to start, for files.

    Tests of a GPU run in one process, for they measure its memory.
    """
    by_file = any(Path(words.partition("::")[0]).is_file() for words in config.args)
    on_gpu = "gpu" in config.option.markexpr.replace("not gpu", "")
    return 0 if by_file or on_gpu else min(MOST_WORKERS, os.cpu_count() or 1)


PREFACE = """
import os, sys, torch
for descriptor, path in files.items():
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
os.environ.update(environment)
sys.argv = words
torch.set_num_threads(1)
"""


PRELOADED = [
    *(
        "pytest",
        "torch._dynamo",
        "torch.distributed",
        "matplotlib.backends.backend_agg",
        "PIL.Image",
    ),
    *("scipy.special", "illama.cli", "illama.training.loop", "illama.training.curves"),
    *("illama_eval.run.evaluate", "illama_eval.studies"),
]
"""What a started process need not import again; torch loads its compiler in the first step."""
forkserver.set_forkserver_preload(PRELOADED)


@dataclass
class Started:
    """A process, what it sends by `pipe.send(...)`, and the files that it prints into."""

    process: BaseProcess
    pipe: Connection
    files: dict[int, Path]

    @property
    def printed(self) -> str:
        return self.files[1].read_text("utf-8")

    @property
    def error(self) -> str:
        return self.files[2].read_text("utf-8")


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Started]]:
    """Return a function that starts a program with its words in a process of its own.

    The processes are forks of one that has torch and our packages loaded, and nothing run.
    """
    context = multiprocessing.get_context("forkserver")
    begun: list[Started] = []

    def run(program: str, *words: object, **environment: object) -> Started:
        folder = tmp_path_factory.mktemp("process")
        files = {1: folder / "printed.txt", 2: folder / "error.txt"}
        pipe, theirs = context.Pipe(duplex=False)
        names = {
            "words": [str(word) for word in words],
            "environment": {name: str(value) for name, value in environment.items()},
            "files": files,
            "pipe": theirs,
            "__name__": "__main__",
        }
        process = context.Process(target=exec, args=(PREFACE + program, names))
        process.start()
        theirs.close()
        begun.append(Started(process, pipe, files))
        return begun[-1]

    yield run
    for each in begun:
        each.process.kill()
        each.process.join()
        each.pipe.close()


@pytest.fixture(scope="session")
def start_several(start: Callable[..., Started]) -> Callable[..., list[Started]]:
    """Return a function that starts a program in processes that find each other as torchrun's.

    All must end with the exit code `code`.
    """

    def run(processes: int, program: str, *words: object, code: int = 0) -> list[Started]:
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            port = chosen.getsockname()[1]
        world = {"WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        world["TORCHELASTIC_RUN_ID"] = "tests"
        begun = [
            start(program, *words, RANK=rank, LOCAL_RANK=rank, **world) for rank in range(processes)
        ]
        for each in begun:
            each.process.join(120)
            assert each.process.exitcode == code, each.error
        return begun

    return run
