"""Tensors that say they are on cuda:0 and compute on the CPU; mixed devices raise, as on a GPU.

They show where code forgets a device, and where the host would wait for the GPU. They show neither
kernels nor speed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from unittest import mock

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from illama.sources.demo import draw

INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""Operations whose indices may be on the CPU where the indexed tensor is on a GPU."""
SIZED_BY_VALUES = {
    *("nonzero", "masked_select", "bincount", "_unique2", "unique_dim", "unique_consecutive"),
    *("_local_scalar_dense", "equal", "is_nonzero"),
}
"""Operations whose result the host needs the values for: it waits for the GPU."""
CUDA: dict[str, Any] = {
    "_lazy_init": None,
    "is_available": True,
    "device_count": 1,
    "set_device": None,
    "current_device": 0,
    "get_device_name": "pretended",
    "max_memory_allocated": 0,
    "memory_allocated": 0,
    "memory_reserved": 0,
    "mem_get_info": (2**34, 2**36),
    "Event": SimpleNamespace(record=lambda: None, synchronize=lambda: None),
    "empty_cache": None,
    "synchronize": None,
    "get_device_capability": (9, 0),
    "get_rng_state": None,
    "set_rng_state": None,
    "manual_seed_all": None,
    "Stream": None,
    "current_stream": mock.Mock(),
    "stream": contextlib.nullcontext(),
}
"""Functions of torch.cuda, and what they return here."""


WAITS: Counter[str] = Counter()
"""How often the host would have waited for the GPU, by the line of the project."""


class Pretended(Tensor):
    """A tensor that says it is on cuda:0."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Self:
        made: Self = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            requires_grad=held.requires_grad,
            device=torch.device("cuda", 0),
        )
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"Pretended({self.held})"

    def tolist(self) -> Any:
        WAITS[_line()] += 1
        return self.held.tolist()

    def record_stream(self, _: object) -> None:
        pass

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Any, kwargs: Any) -> Any:
    """Do an operation on the CPU; its result is where it would be."""
    name = func._schema.name.removeprefix("aten::")
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    pretended = any(map(_is_pretended, tensors))
    target = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
    plain_args, plain = tree_map(_held, (args, kwargs))
    plain = {**plain, **({"device": torch.device("cpu")} if target == "cuda" else {})}
    plain.pop("pin_memory", None)
    if pretended and name not in {"_to_copy", "copy_"}:
        _check_devices(name, args, tensors)
    if _waits(name, args, kwargs, tensors, target):
        WAITS[_line()] += 1
    result = func(*plain_args, **plain)
    if target == "cpu" or not (pretended or target == "cuda"):
        return args[0] if name == "copy_" else result
    if name.endswith("_") and isinstance(args[0], Tensor):
        return args[0]
    return kwargs["out"] if "out" in kwargs else tree_map(_pretend, result)


def _waits(name: str, args: Any, kwargs: Any, tensors: list[Tensor], target: str | None) -> bool:
    """Return whether the host waits for an operation: for its values, or for a copy."""
    there = [_is_pretended(each) for each in tensors]
    if name == "_to_copy":
        asynchronous = kwargs.get("non_blocking") and target == "cuda"
        return (target == "cuda") != there[0] and target is not None and not asynchronous
    if name == "copy_":
        asynchronous = any(args[2:]) or kwargs.get("non_blocking")
        return there[0] != there[-1] and not asynchronous
    if name in INDEXING and any(there):
        index = [each for each in args[1] if each is not None]
        return any(each.dtype == torch.bool or not _is_pretended(each) for each in index)
    sized = name in SIZED_BY_VALUES or (name == "repeat_interleave" and "output_size" not in kwargs)
    return sized and any(there)


def _line() -> str:
    """Return the innermost line of the project that is running."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if "/illama/" in file or "/illama_eval/" in file:
            return f"{'/'.join(Path(file).parts[-3:])}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "a test"


def _check_devices(name: str, args: Any, tensors: list[Tensor]) -> None:
    if name in INDEXING:
        wrong = [] if _is_pretended(args[0]) else [args[0]]
    else:
        wrong = [each for each in tensors if each.dim() and not _is_pretended(each)]
    if wrong:
        shapes = [tuple(each.shape) for each in wrong]
        raise RuntimeError(
            f"Expected all tensors to be on the same device: {name} has CPU tensors {shapes}"
        )


def _is_pretended(value: Tensor) -> bool:
    return isinstance(value, Pretended) or getattr(value, "pretended", False)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Pretended) else value


def _pretend(value: Any) -> Any:
    if not isinstance(value, Tensor) or isinstance(value, Pretended):
        return value
    if value.layout != torch.strided:  # a wrapper cannot be sparse
        value.pretended = True  # type: ignore[attr-defined]
        return value
    return Pretended(value)


@pytest.fixture(scope="session")
def compile_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that builds a library of this folder, once, or skips the test."""
    folder = tmp_path_factory.mktemp("libraries")
    return functools.cache(lambda name: _compile(name, folder))


@pytest.fixture(scope="session")
def on(
    compile_library: Callable[[str], Path],
) -> Callable[[str], contextlib.AbstractContextManager[None]]:
    """Return the context in which a device exists: nothing to do for `cpu`, pretended for `cuda`.

    Without a compiler for torch's device guard, the tests are skipped.
    """
    ctypes.CDLL(str(compile_library("guard")))
    return lambda device: pretend_cuda() if device == "cuda" else contextlib.nullcontext()


@pytest.fixture
def waits() -> Counter[str]:
    """Return how often the host has waited for the pretended GPU, by the line of the project."""
    WAITS.clear()
    return WAITS


@contextlib.contextmanager
def pretend_cuda() -> Iterator[None]:
    """Let `cuda` be a device."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with contextlib.ExitStack() as stack:
            for name, value in CUDA.items():
                stack.enter_context(mock.patch.object(torch.cuda, name, lambda *_, v=value: v))
            found = mock.patch.multiple(
                torch.accelerator, is_available=lambda: True, current_accelerator=lambda **_: None
            )
            stack.enter_context(found)
            stack.enter_context(mock.patch.object(Tensor, "pin_memory", lambda self: self))
            stack.enter_context(_Dispatch())
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def _compile(name: str, folder: Path) -> Path:
    """Build `name`.cpp of this folder into a library, or skip the test with the reason."""
    if torch.version.cuda is not None:
        pytest.skip("this torch has CUDA; tests/gpu shows more")
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler, which the pretended CUDA device needs")
    torch_folder, made = Path(torch.__file__).parent, folder / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.cpp")
    words = [compiler, "-shared", "-fPIC", "-std=c++20", f"-I{torch_folder}/include", source]
    words += [f"-L{torch_folder}/lib", "-lc10", "-ltorch_cpu", "-o", made]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.splitlines()
        why = next((line for line in lines if "error" in line), lines[0])
        pytest.skip(f"{source.name} does not compile: {why}")
    return made


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Return a folder of 24 pictures of 8 pixels in three classes."""
    for number, image in enumerate(draw("test", 24).images[:, ::4, ::4]):
        path = tmp_path / "flat" / f"class{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "flat"
