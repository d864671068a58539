"""Schedules: learning rate, weight decay, soft mask and drop rate of each optimizer step."""

from __future__ import annotations

import math
from typing import Literal


def polynomial(
    step: int, *, peak: float, warmup_steps: int, steps: int, first: float = 1e-6
) -> float:
    """Return the learning rate: a straight line from `peak` to 0, with warm-up.

    In the first `warmup_steps` the rate is multiplied by a factor that rises linearly from `first`
    to 1, as in the BEiT recipe that the paper uses for segmentation (power 1).
    """
    rate = peak * (1 - step / steps)
    if step >= warmup_steps:
        return rate
    return rate * (1 - (1 - step / warmup_steps) * (1 - first))


def learning_rate(
    step: int, *, peak: float, minimum: float, warmup_steps: int, steps: int
) -> float:
    """Return the learning rate: linear from 0 to `peak`, then half a cosine towards `minimum`.

    Step 0 has rate 0; the last warm-up step and the first one after it both have the peak (end
    points included, as in the released code). `steps` counts all steps, warm-up included.
    """
    if step < warmup_steps:
        return peak * _share(step, warmup_steps)
    return _cosine(step - warmup_steps, steps - warmup_steps, peak, minimum)


def weight_decay(step: int, *, start: float, end: float | None, steps: int) -> float:
    """Return the weight decay: half a cosine from `start` towards `end`, or `start` throughout."""
    return start if end is None else _cosine(step, steps, start, end)


def soft_mask(
    step: int, *, start: float, schedule: Literal["constant", "linear"], cutoff_steps: int
) -> float:
    """Return the soft mask (paper, section 3.5): 0 from step `cutoff_steps` on.

    Before it, `constant` keeps `start`; `linear` falls from `start` to 0, both included.
    """
    if step >= cutoff_steps:
        return 0.0
    return start if schedule == "constant" else start * (1 - _share(step, cutoff_steps))


def drop_path(
    step: int,
    *,
    rate: float,
    mode: Literal["standard", "early", "late"],
    schedule: Literal["constant", "linear"],
    cutoff_steps: int,
) -> float:
    """Return the drop rate of the last block (Liu et al. 2023, as extended by the released code).

    `standard` keeps it; `late` is 0 before `cutoff_steps`; `early` is 0 from then on and, with the
    schedule `linear`, falls from `rate` to 0 before, like the soft mask.
    """
    if mode == "early":
        return soft_mask(step, start=rate, schedule=schedule, cutoff_steps=cutoff_steps)
    return 0.0 if mode == "late" and step < cutoff_steps else rate


def _cosine(step: int, steps: int, start: float, end: float) -> float:
    """Return half a cosine from `start` in step 0 to `end` in step `steps`."""
    return end + (start - end) * (1 + math.cos(math.pi * (step / steps))) / 2


def _share(step: int, steps: int) -> float:
    """Return the position of `step` between the first of `steps` steps, 0, and the last, 1."""
    return step / (steps - 1) if steps > 1 else 0.0
