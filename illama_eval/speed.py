"""Speed: a model against its bidirectional twin, and quantized models against the exact one."""

from __future__ import annotations

import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from illama.arithmetic import DTYPES
from illama.complexity import causal_macs, macs
from illama.config import Config, Dtype
from illama.model import Model
from illama_eval.results import At, Row, Run
from illama_eval.run import directory, environment
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.network import NetworkSubject
from illama_eval.subjects.subject import Subject

Latency = Literal["both", "eager", "none"]
"""Modes in which quantized models are timed: eager and compiled, eager alone, or none."""
Forward = Callable[[Tensor], Tensor]

BATCHES = (1, 64)
WARM_UP = 10
"""Passes before the timed ones, at most."""
PASSES = 50
"""Timed passes, at most."""
SECONDS = 20.0
"""Time for all passes of a command, shared evenly by its modes and batch sizes."""
FEWEST = 5
"""Timed passes, at least, however long they take."""
SIMULATED = (
    "simulated: weights are dequantized and multiplied in floating point, so it has no speed"
)
"""Reason of the missing latency of a simulated model."""
UNTIMED = f"not timed: the {SECONDS:g} s for timing were over; --latency both takes longer"
"""Reason of a missing latency."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Seconds of every pass of one model at one batch size."""

    batch: int
    seconds: tuple[float, ...]

    @property
    def latency(self) -> tuple[float, float, float]:
        """Return median, 10th and 90th percentile, in seconds."""
        low, *_, high = statistics.quantiles(self.seconds, n=10, method="inclusive")
        return statistics.median(self.seconds), low, high


def measure_speed(
    subject: ModelSubject,
    out: Path,
    *,
    compiled: bool = False,
    overwrite: bool = False,
    command: Sequence[str] = (),
) -> Run:
    """Measure a model against its twin and write run.json (counts) and timing.json (times).

    Passes of the two are interleaved, so that other load of the machine slows both. `command` are
    the words of the command line that repeats this, for the header.

    Raises:
        ResultError: the directory is in use, or has a run of another model.
    """
    identity = {"speed": subject.describe()}
    header = {
        **environment.describe(subject.device),
        "identity": identity,
        "subjects": [subject.describe()],
        "source": {"name": "random images", "images": 0},
        "compiled": compiled,
        "command": list(command),
    }
    with directory.owned(out):
        if overwrite:
            directory.clear(out)
        directory.finished_run(out, identity)
        rows = (*count_macs(subject), *time_both(subject, compiled=compiled), *memory(subject))
        counted = Run(header=header, rows=tuple(row for row in rows if row.unit == "MACs"))
        timed = Run(header=header, rows=tuple(row for row in rows if row.unit != "MACs"))
        directory.write_run(out, counted, timed, {})
    return Run(header=header, rows=rows)


def count_macs(subject: ModelSubject) -> Iterator[Row]:
    """Yield multiply-accumulates of one image, dense and by the paper's causal formula."""
    config = subject.model.config
    for metric, count in (("macs_dense", macs(config)), ("macs_causal", causal_macs(config))):
        yield speed_row(subject, metric, float(count), "MACs", reason="counted, not measured")


def time_both(subject: ModelSubject, *, compiled: bool) -> Iterator[Row]:
    """Yield latency, images/s and their ratio to the twin's for every batch size."""
    models = {"model": subject.model, "twin": bidirectional_twin(subject.model)}
    forwards: dict[str, Forward] = {}
    for name, model in models.items():
        alpha = subject.soft_mask if name == "model" else 0.0
        forwards[name] = partial(torch.compile(model) if compiled else model, soft_mask=alpha)
    for batch in BATCHES:
        images = random_images(subject, batch)
        timed = time_interleaved(forwards, images, SECONDS / len(BATCHES))
        for name, each in timed.items():
            yield from _timed_rows(subject, each, {"model": name, "batch": batch})
        ratio = timed["twin"].latency[0] / timed["model"].latency[0]
        reason = "twin's median latency over the model's: above 1 the mask made it faster"
        yield speed_row(subject, "speed_ratio", ratio, "factor", {"batch": batch}, reason)


def bidirectional_twin(model: Model) -> Model:
    """Return the same weights without a mask, on the same device."""
    config = replace(model.config, masking="none")
    twin = Model(config, path=model.path).to(model.class_token)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def memory(subject: ModelSubject) -> Iterator[Row]:
    """Yield the peak memory of a forward for both models and every batch size.

    On a GPU the most that torch held; on a CPU the most that a fresh process held, so that earlier
    passes do not count.
    """
    config = subject.model.config
    twin = replace(config, masking="none")
    for name, each in (("model", config), ("twin", twin)):
        for batch in BATCHES:
            held = _peak(subject, each, batch)
            what = "by torch" if subject.device.type == "cuda" else "by a process of its own"
            at: At = {"model": name, "batch": batch}
            yield speed_row(subject, "peak_memory", float(held), "bytes", at, f"most held {what}")


def _peak(subject: ModelSubject, config: Config, batch: int) -> int:
    """Return the most bytes that one forward held, weights included."""
    arguments = (config.to_dict(), subject.soft_mask, subject.dtype, batch)
    if subject.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(subject.device)
        _forward_once(*arguments, device=subject.device)
        return torch.cuda.max_memory_allocated(subject.device)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_hold, arguments)


def _hold(config: dict[str, Any], soft_mask: float, dtype: Dtype, batch: int) -> int:
    """Run one forward in this process and return its peak memory in bytes."""
    device = torch.device("cpu")
    _forward_once(config, soft_mask, dtype, batch, device=device)
    return environment.peak_memory(device)


@torch.inference_mode()
def _forward_once(
    config: dict[str, Any], soft_mask: float, dtype: Dtype, batch: int, *, device: torch.device
) -> None:
    model = Model(Config.from_dict(config)).to(device, DTYPES[dtype]).eval()
    side = model.config.image_size
    alpha = 0.0 if model.config.masking == "none" else soft_mask
    model(torch.zeros(batch, 3, side, side, device=device, dtype=DTYPES[dtype]), alpha)


def measure_latency(
    subjects: Sequence[ModelSubject | NetworkSubject],
    simulated: Sequence[bool],
    latency: Latency | None = None,
) -> Iterator[Row]:
    """Yield latency and images/s of each subject, and how much faster it is than the first.

    Without `latency` nothing is compiled any more once SECONDS are over: compiling may take longer
    than all passes.
    """
    modes = {"eager": ("eager",), "none": ()}.get(latency or "", ("eager", "compiled"))
    real = [each for each, fake in zip(subjects, simulated, strict=True) if not fake]
    planned = [(mode, batch) for mode in modes for batch in BATCHES if len(real) > 1]
    begin = time.perf_counter()
    for mode, batch in planned:
        late = time.perf_counter() - begin > SECONDS
        if latency is None and mode == "compiled" and late:
            at: At = {"batch": batch, "mode": mode}
            yield speed_row(real[-1], "latency", None, "s", at, UNTIMED)
        else:
            yield from _time_mode(real, batch, mode, SECONDS / len(planned))
    for subject, fake in zip(subjects, simulated, strict=True):
        if fake and modes:
            yield speed_row(subject, "latency", None, "s", {}, SIMULATED)


def _time_mode(
    subjects: Sequence[ModelSubject | NetworkSubject], batch: int, mode: str, seconds: float
) -> Iterator[Row]:
    """Yield the rows of one batch size in one mode."""
    forwards: dict[str, Forward] = {}
    for subject in subjects:
        compiled = mode == "compiled"
        run = torch.compile(subject.model, dynamic=False) if compiled else subject.model
        masked = {"soft_mask": subject.soft_mask} if isinstance(subject, ModelSubject) else {}
        forwards[subject.name] = partial(run, **masked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # compilers warn that they cannot cache torchao's tensors
        timed = time_interleaved(forwards, random_images(subjects[0], batch), seconds)
    first = timed[subjects[0].name].latency[0]
    for subject in subjects:
        each = timed[subject.name]
        at: At = {"batch": batch, "mode": mode}
        yield from _timed_rows(subject, each, at, f", {_describe_device(subject)}")
        ratio = first / each.latency[0]
        reason = "median latency of the first subject over this one's"
        yield speed_row(subject, "speedup", ratio, "factor", at, reason)


def _describe_device(subject: Subject) -> str:
    if subject.device.type == "cuda":
        return torch.cuda.get_device_name(subject.device)
    return f"{torch.get_num_threads()} CPU threads"


@torch.inference_mode()
def time_interleaved(
    forwards: Mapping[str, Forward], images: Tensor, seconds: float
) -> dict[str, Timed]:
    """Return the seconds of each forward, taken in turn after warming up.

    Passes end after `seconds`, or after PASSES of them, but not before FEWEST.
    """
    found: dict[str, list[float]] = {name: [] for name in forwards}
    begin, warm = time.perf_counter(), 0
    while warm < WARM_UP and (not warm or time.perf_counter() - begin < seconds / 4):
        for forward in forwards.values():
            forward(images)
        warm += 1
    begin = time.perf_counter()
    for done in range(PASSES):
        if done >= FEWEST and time.perf_counter() - begin > seconds:
            break
        for name, forward in forwards.items():
            found[name].append(_time_once(forward, images))
    return {name: Timed(batch=len(images), seconds=tuple(each)) for name, each in found.items()}


def _time_once(forward: Forward, images: Tensor) -> float:
    """Return the seconds of one pass, finished on the device."""
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    begin = time.perf_counter()
    forward(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - begin


def _timed_rows(subject: Subject, timed: Timed, at: At, where: str = "") -> Iterator[Row]:
    """Yield latency and images/s of one model at one batch size."""
    middle, low, high = timed.latency
    reason = f"median, 10th and 90th percentile of {len(timed.seconds)} passes{where}"
    yield speed_row(subject, "latency", middle, "s", at, reason, (low, high))
    batch = timed.batch
    bounds = batch / high, batch / low
    yield speed_row(subject, "images_per_second", batch / middle, "images/s", at, reason, bounds)


def speed_row(
    subject: Subject,
    metric: str,
    value: float | None,
    unit: str,
    at: At | None = None,
    reason: str = "",
    bounds: tuple[float, float] | tuple[None, None] = (None, None),
) -> Row:
    """Return a row of timing.json; `images` is the batch it was measured at."""
    return Row(
        subject=subject.name,
        source="random images",
        study="speed",
        metric=metric,
        value=value,
        low=bounds[0],
        high=bounds[1],
        unit=unit,
        images=int((at or {}).get("batch", 0)),
        at=dict(at or {}),
        reason=reason,
    )


def random_images(subject: ModelSubject | NetworkSubject, batch: int) -> Tensor:
    """Return seeded normal inputs [image, 3, row, column] for a subject."""
    if isinstance(subject, NetworkSubject):
        side = subject.transform.image_size
    else:
        side = subject.model.config.image_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, side, side, generator=generator)
    return images.to(subject.device, DTYPES[subject.dtype])
