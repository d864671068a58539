"""Train on the CPU and on a pretended GPU: `train_a_step.py GUARD HOOKS IMAGES OUT`.

Writes what a step of 24 images gives on either device, and to OUT/waits.json how often the host
waits for the GPU in a training of two steps and in one of four.

A program of its own, because torch asks only once whether there is CUDA, when it is imported.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import sys
from pathlib import Path

SETTINGS = ("size=micro", "image_size=8", "classes=3", "dtype=fp32", "epochs=1")
SETTINGS += ("cutoff_soft=0", "warmup_epochs=0", "lr=0.01")


def load(library: Path) -> None:
    """Load a library, so that those loaded after it find what it defines."""
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def main(guard: Path, hooks: Path, images: Path, out: Path) -> None:
    """Train a micro model of the same seed, into folders named by device and batch size."""
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    for name in ("libc10.so", "libtorch_cpu.so"):
        load(Path(found.origin).parent / "lib" / name)
    load(hooks)
    load(guard)

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
    source, waits = open_source(str(images)), {}

    def train(device: str, batch: int) -> None:
        recipe = find_recipe("demo").override((*SETTINGS, f"batch_size={batch}"))
        execution = Execution(device=device)
        fit(recipe, source, source, out / f"{device}-{batch}", execution=execution)

    train("cpu", 24)
    with pretended.pretend_cuda():
        for batch in (24, 12, 6):
            pretended.WAITS.clear()
            train("cuda", batch)
            waits[24 // batch] = dict(pretended.WAITS)
    (out / "waits.json").write_text(json.dumps(waits))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
