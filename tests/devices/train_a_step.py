"""Train a step on the CPU and on a pretended GPU: `python train_a_step.py LIBRARIES IMAGES OUT`.

A program of its own, because torch asks only once whether there is CUDA, when it is imported.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path

SETTINGS = ("size=micro", "image_size=8", "classes=3", "batch_size=24", "dtype=fp32", "epochs=1")
SETTINGS += ("cutoff_soft=0", "warmup_epochs=0", "lr=0.01")


def load(library: Path) -> None:
    """Load a library, so that those loaded after it find what it defines."""
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def main(libraries: Path, images: Path, out: Path) -> None:
    """Train a micro model of the same seed on both devices, into folders of their names."""
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    for name in ("libc10.so", "libtorch_cpu.so"):
        load(Path(found.origin).parent / "lib" / name)
    for name in ("hooks.so", "guard.so"):
        load(libraries / name)

    from illama.config import SIZES
    from illama.sources import open_source
    from illama.training.loop import Execution, fit
    from illama.training.recipe import find_recipe

    spec = importlib.util.spec_from_file_location(
        "pretended", Path(__file__).with_name("conftest.py")
    )
    assert spec is not None
    assert spec.loader is not None
    pretended = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pretended)
    assert isinstance(SIZES, dict)
    SIZES["micro"] = {"width": 8, "depth": 2, "heads": 2, "patch_size": 4}
    recipe, source = find_recipe("demo").override(SETTINGS), open_source(str(images))
    fit(recipe, source, source, out / "cpu", execution=Execution(device="cpu"))
    with pretended.pretend_cuda():
        fit(recipe, source, source, out / "cuda", execution=Execution(device="cuda"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
