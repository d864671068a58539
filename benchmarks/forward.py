"""Images per second of our forward against the released arithmetic, as ratios in one process.

    python benchmarks/forward.py [--sizes tiny base] [--rounds 7]

Every variant runs the same weights on the same batch, interleaved, so that a busy machine slows
all of them alike; the ratio is that of the medians. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from plain import PlainModel
from torch import Tensor

from illama.config import Config
from illama.model import Model

BATCHES = {"tiny": 32, "small": 16, "base": 8, "nano": 128}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["tiny", "base"])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report = {
        "machine": describe(device),
        "sizes": {size: measure(size, device, arguments.rounds) for size in arguments.sizes},
    }
    print(json.dumps(report, indent=1))


def describe(device: torch.device) -> dict[str, object]:
    """Return what the figures depend on."""
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu_flags": sorted({"avx512_bf16", "avx512_vnni", "amx_bf16"} & set(flags)),
    }


@torch.inference_mode()
def measure(size: str, device: torch.device, rounds: int) -> dict[str, object]:
    """Return ratios and agreement of all variants at one size."""
    torch.manual_seed(0)
    model = Model(Config.at("soft-mask", size)).eval().to(device)
    plain = PlainModel(model).eval().to(device)
    side = model.config.image_size
    images = torch.randn(BATCHES[size], 3, side, side, device=device)
    low = Model(model.config).eval()
    low.load_state_dict(model.state_dict())
    low = low.to(device, torch.bfloat16)
    halved = images.bfloat16()
    variants: dict[str, Callable[[], Tensor]] = {
        "released fp32": lambda: plain(images),
        "ours fp32": lambda: model(images),
        "ours fp32 compiled": compiled(model, images),
        "ours bf16": lambda: low(halved),
        "ours bf16 compiled": compiled(low, halved),
    }
    reference = variants["released fp32"]().float()
    agreement = {name: compare(run().float(), reference) for name, run in variants.items()}
    seconds = interleave(variants, rounds, device)
    base = seconds["released fp32"]
    return {
        name: {
            "ratio": round(base / taken, 3),
            "images_per_second": round(BATCHES[size] / taken, 1),
            **agreement[name],
        }
        for name, taken in seconds.items()
    }


def compiled(model: Model, images: Tensor) -> Callable[[], Tensor]:
    """Return a compiled forward on these images."""
    forward = torch.compile(model)
    return lambda: forward(images)


def compare(logits: Tensor, reference: Tensor) -> dict[str, float]:
    """Return top-1 agreement and the largest error relative to the largest logit."""
    same = (logits.argmax(-1) == reference.argmax(-1)).float().mean().item()
    error = ((logits - reference).abs().max() / reference.abs().max()).item()
    return {"top1_agreement": round(same, 4), "relative_error": float(f"{error:.2e}")}


def interleave(
    variants: dict[str, Callable[[], Tensor]], rounds: int, device: torch.device
) -> dict[str, float]:
    """Return the median seconds of each variant over interleaved rounds, after two to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for each in range(rounds + 2):
        for name, run in variants.items():
            begin = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if each >= 2:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


if __name__ == "__main__":
    main()
