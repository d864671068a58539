"""A simulation at size: generated JPEGs in tar shards, one checkpoint, several processes, two runs.

    python benchmarks/scale.py [--images 50000] [--again N] [--processes 2] [--folder FOLDER]

Writes JPEGs of 500 x 375 pixels in shards of 5,000 with their labels, and a checkpoint of the size
tiny with random weights. Then `torchrun` measures accuracy and calibration twice: the first run
fills a cache of prepared images, and the second, into another directory, reads all or N of them
from it. What is written stays in FOLDER, if one is named, and is used again. Prints JSON: seconds
and processor seconds of each stage, and whether both runs have the same rows, if they have the same
images.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from illama.checkpoint.save import save_checkpoint
from illama.config import Config
from illama.model import Model

SHARD = 5_000
"""Images in a shard."""
CLASSES = 1_000
SIZE = (375, 500)
"""Rows and columns: the commonest of ImageNet's."""
QUALITY = 90
COARSE = 24
"""Pixels along a blob of an image; under noise, files are as large as ImageNet's."""
NOISE = 12


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--again", type=int, help="images of the second run")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.folder is not None:
        given.folder.mkdir(parents=True, exist_ok=True)
        return simulate(given.folder, given.images, given.again or given.images, given.processes)
    with tempfile.TemporaryDirectory() as folder:
        return simulate(Path(folder), given.images, given.again or given.images, given.processes)


def simulate(folder: Path, images: int, again: int, processes: int) -> int:
    """Write the images and the checkpoint, run twice, and print the report."""
    shards, cache = folder / f"shards-{images}", folder / f"cache-{images}"
    stages: dict[str, Seconds] = {}
    if not shards.is_dir():
        with timed(stages, "write shards"):
            write_shards(shards, images)
    checkpoint = folder / "tiny.safetensors"
    torch.manual_seed(0)
    save_checkpoint(Model(Config.at("soft-mask", "tiny")).eval(), checkpoint)
    shutil.rmtree(cache, ignore_errors=True)
    outs = [folder / f"{name}-{images}" for name in ("first", "second")]
    for out, limit in zip(outs, (images, again), strict=True):
        shutil.rmtree(out, ignore_errors=True)
        with timed(stages, f"{out.name.split('-')[0]} run"):
            run(processes, checkpoint, shards, cache, out, limit)
    runs = [json.loads((out / "run.json").read_text()) for out in outs]
    report = {
        "images": [each["header"]["images_seen"] for each in runs],
        "processes": processes,
        "cores": os.cpu_count(),
        "seconds": {name: round(each.wall, 1) for name, each in stages.items()},
        "processor seconds": {name: round(each.processor, 1) for name, each in stages.items()},
        "measuring_seconds": [measured(out) for out in outs],
        "megabytes": {"shards": megabytes(shards), "cache": megabytes(cache)},
        "same rows": runs[0]["rows"] == runs[1]["rows"] if again == images else None,
    }
    print(json.dumps(report, indent=1))
    return int(report["same rows"] is False)


class Seconds(NamedTuple):
    """What a stage took."""

    wall: float
    processor: float
    """Of this process and of those that it waited for."""


@contextmanager
def timed(stages: dict[str, Seconds], name: str) -> Iterator[None]:
    """Note the seconds of a stage under its name."""
    begin = clock()
    yield
    end = clock()
    stages[name] = Seconds(end.wall - begin.wall, end.processor - begin.processor)


def clock() -> Seconds:
    """Return what has passed so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Seconds(time.perf_counter(), sum(each.ru_utime + each.ru_stime for each in used))


def write_shards(folder: Path, images: int) -> None:
    """Write JPEGs and labels, `KEY.jpg` and `KEY.cls`, to tar shards."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for first in range(0, images, SHARD):
        with tarfile.open(folder / f"val-{first // SHARD:03d}.tar", "w") as archive:
            for number in range(first, min(images, first + SHARD)):
                add(archive, f"{number:06d}.jpg", draw(random))
                add(archive, f"{number:06d}.cls", str(number % CLASSES).encode())


def draw(random: np.random.Generator) -> bytes:
    """Return a JPEG of coloured blobs under noise."""
    rows, columns = SIZE
    blobs = random.integers(0, 256, (rows // COARSE, columns // COARSE, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(blobs).resize((columns, rows), Image.Resampling.BICUBIC))
    noise = random.integers(-NOISE, NOISE + 1, (rows, columns, 1), dtype=np.int16)
    pixels = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Append a file to an archive."""
    about = tarfile.TarInfo(name)
    about.size = len(content)
    archive.addfile(about, io.BytesIO(content))


def run(processes: int, checkpoint: Path, shards: Path, cache: Path, out: Path, limit: int) -> None:
    """Measure accuracy and calibration in several processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    program = Path(sys.executable).with_name("illama-eval")
    command: list[Any] = ["--standalone", "--no-python", program, "run", checkpoint]
    options: list[Any] = ["--data", shards, "--cache", cache, "--out", out, "--device", "cpu"]
    options += ["--limit", limit]
    words = [*launch, *command, "--only", "accuracy,calibration", *options]
    subprocess.run(list(map(str, words)), check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command


def measured(out: Path) -> float:
    """Return the seconds that the pass over the images took, without start and drawing."""
    rows = json.loads((out / "timing.json").read_text())["rows"]
    return round(sum(float(row["value"]) for row in rows if row["metric"] == "seconds"), 1)


def megabytes(folder: Path) -> int:
    """Return the size of a folder's files."""
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6)


if __name__ == "__main__":
    sys.exit(main())
