"""Speed, size and cost of quantization, as ratios in one process.

    python benchmarks/quantize.py [--parts speed files sensitivity] [--sizes base tiny]

`speed`: w8a8-dynamic against fp32 on a CPU; w8a8-dynamic and fp8 against bf16 on a GPU, batch 128;
eager and compiled, interleaved. `files`: bytes of quantized base files over those of fp32.
`sensitivity`: 48 layers of tiny on 64 images, over one forward of those images. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from forward import describe, interleave
from torch import Tensor

from illama.config import Config
from illama.model import Model
from illama.transforms import evaluation_transform
from illama_eval.quantize.ptq import quantize
from illama_eval.quantize.schemes import QuantizationConfig
from illama_eval.quantize.sensitivity import find_effects
from illama_eval.subjects.checkpoint import ModelSubject

BATCHES = {"cpu": {"tiny": 16, "small": 8, "base": 8}, "cuda": {}}
GPU_BATCH = 128


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=["speed", "files", "sensitivity"])
    parser.add_argument("--sizes", nargs="+", default=["base", "tiny"])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report: dict[str, object] = {"machine": describe(device)}
    if "speed" in arguments.parts:
        report["speed"] = {
            size: compare_speed(size, device, arguments.rounds) for size in arguments.sizes
        }
    if "files" in arguments.parts:
        report["files"] = {scheme: compare_files(scheme) for scheme in ("w8", "w4")}
    if "sensitivity" in arguments.parts:
        report["sensitivity"] = time_sensitivity()
    print(json.dumps(report, indent=1))


def make_subject(size: str, device: torch.device) -> ModelSubject:
    """Return a model of a published size with random weights."""
    torch.manual_seed(0)
    model = Model(Config.at("soft-mask", size)).eval().to(device)
    transform = evaluation_transform(model.config.image_size)
    return ModelSubject(name=size, model=model, transform=transform)


def random_images(subject: ModelSubject, count: int) -> Tensor:
    """Return normal inputs."""
    side = subject.model.config.image_size
    return torch.randn(count, 3, side, side, device=subject.device)


def compare_speed(size: str, device: torch.device, rounds: int) -> dict[str, object]:
    """Return images/s of each variant, and its ratio to the exact model in the same mode."""
    subject = make_subject(size, device)
    batch = BATCHES[device.type].get(size, GPU_BATCH)
    gpu = device.type == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    models = {"exact": subject.model}
    for scheme in ("w8a8-dynamic", *(("fp8",) if gpu else ())):
        models[scheme] = quantize(subject, QuantizationConfig(scheme=scheme)).model
    images = random_images(subject, batch).to(dtype)
    variants: dict[str, Callable[[], Tensor]] = {}
    for name, model in models.items():
        cast = model.to(dtype)
        variants[f"{name} eager"] = partial(cast, images)
        variants[f"{name} compiled"] = partial(torch.compile(cast, dynamic=False), images)
    with torch.inference_mode():
        seconds = interleave(variants, rounds, device)
    return {
        "batch": batch,
        "exact": str(dtype).removeprefix("torch."),
        **{
            name: {
                "images_per_second": round(batch / taken, 1),
                "ratio": round(seconds[f"exact {name.rpartition(' ')[2]}"] / taken, 3),
            }
            for name, taken in seconds.items()
        },
    }


def compare_files(scheme: str) -> dict[str, object]:
    """Return the bytes of a quantized base file, head in float, over those of its fp32 weights."""
    made = quantize(make_subject("base", torch.device("cpu")), QuantizationConfig(scheme=scheme))
    size = made.describe()["bytes"]
    return {**size, "ratio": round(size["total"] / size["full_precision"], 4)}


def time_sensitivity() -> dict[str, object]:
    """Return the time of a sensitivity map of tiny, in forwards of its 64 images.

    Processor time: a busy machine stretches neither.
    """
    subject = make_subject("tiny", torch.device("cpu"))
    images = random_images(subject, 64)
    forwards = [processor_time(partial(subject.model, images)) for _ in range(4)][1:]
    found: dict[str, object] = {"forward": round(statistics.median(forwards), 3)}
    for scheme in ("w8a8-dynamic", "w4"):
        config = QuantizationConfig(scheme=scheme)
        taken = processor_time(partial(find_effects, subject, images, config))
        forwards.append(processor_time(partial(subject.model, images)))
        found[scheme] = {"forwards": round(taken / statistics.median(forwards), 1)}
    return found


@torch.inference_mode()
def processor_time(run: Callable[[], object]) -> float:
    """Return the seconds that the processor worked."""
    begin = time.process_time()
    run()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
