"""How long a quantized model takes beside the one it was made from; nothing where it is simulated.

Passes of all are interleaved: 10 to warm up, the median of 50, at batch 1 and 64.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import torch

from illama_eval.row import Row
from illama_eval.speed import BATCHES, Forward, random_images, speed_row, time_interleaved
from illama_eval.subjects import ModelSubject

Latency = Literal["both", "eager", "none"]

SIMULATED = (
    "simulated: weights are dequantized and multiplied in floating point, so it has no speed"
)


def measure_latency(
    subjects: Sequence[ModelSubject], simulated: Sequence[bool], latency: Latency
) -> Iterator[Row]:
    """Yield latency and images/s of each subject, and how much faster it is than the first."""
    modes = {"both": ("eager", "compiled"), "eager": ("eager",), "none": ()}[latency]
    real = [each for each, fake in zip(subjects, simulated, strict=True) if not fake]
    for batch in BATCHES if len(real) > 1 else ():
        for mode in modes:
            yield from _time(real, batch, mode)
    for subject, fake in zip(subjects, simulated, strict=True):
        if fake and modes:
            yield speed_row(subject, "latency", None, "s", {}, SIMULATED)


def _time(subjects: Sequence[ModelSubject], batch: int, mode: str) -> Iterator[Row]:
    """Yield the rows of one batch size in one mode."""
    forwards: dict[str, Forward] = {}
    for subject in subjects:
        compiled = mode == "compiled"
        run = torch.compile(subject.model, dynamic=False) if compiled else subject.model
        forwards[subject.name] = partial(run, soft_mask=subject.soft_mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # compilers warn that they cannot cache torchao's tensors
        timed = time_interleaved(forwards, random_images(subjects[0], batch))
    first = timed[subjects[0].name].latency[0]
    for subject in subjects:
        each = timed[subject.name]
        middle, low, high = each.latency
        at: dict[str, int | str] = {"batch": batch, "mode": mode}
        passes = (
            f"median, 10th and 90th percentile of {len(each.seconds)} passes, {_where(subject)}"
        )
        yield speed_row(subject, "latency", middle, "s", at, passes, (low, high))
        yield speed_row(subject, "images_per_second", batch / middle, "images/s", at, passes,
                   (batch / high, batch / low))  # fmt: skip
        yield speed_row(subject, "speedup", first / middle, "factor", at,
                   "median latency of the first subject over this one's")  # fmt: skip


def _where(subject: ModelSubject) -> str:
    if subject.device.type == "cuda":
        return torch.cuda.get_device_name(subject.device)
    return f"{torch.get_num_threads()} CPU threads"
