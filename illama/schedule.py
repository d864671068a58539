"""What changes while training, as pure functions of the optimizer step: step -> value."""

from __future__ import annotations

import math
from typing import Literal


def learning_rate(
    step: int, *, peak: float, minimum: float, warmup_steps: int, steps: int
) -> float:
    """Return the learning rate: linear from 0 to `peak`, then half a cosine towards `minimum`.

    Step 0 has rate 0; the last warm-up step and the first behind it both have the peak (end points
    included, as in the released code). `steps` counts all steps, warm-up included.
    """
    if step < warmup_steps:
        return peak * _share(step, warmup_steps)
    progress = (step - warmup_steps) / (steps - warmup_steps)
    return minimum + (peak - minimum) * (1 + math.cos(math.pi * progress)) / 2


def soft_mask(
    step: int, *, start: float, schedule: Literal["constant", "linear"], cutoff_steps: int
) -> float:
    """Return the soft mask (paper, section 3.5): 0 from step `cutoff_steps` on.

    Before it, `constant` keeps `start`; `linear` falls from `start` to 0, both of them reached.
    """
    if step >= cutoff_steps:
        return 0.0
    return start if schedule == "constant" else start * (1 - _share(step, cutoff_steps))


def _share(step: int, steps: int) -> float:
    """Return how far `step` is on the way from the first of `steps` steps, 0, to the last, 1."""
    return step / (steps - 1) if steps > 1 else 0.0
