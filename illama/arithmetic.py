"""Floating-point arithmetic: precisions by name, exact products on a GPU, numbers for numpy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illama.config import Dtype

DTYPES: Mapping[Dtype, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def use_exact_products(device: torch.device | str) -> None:
    """Let a GPU multiply fp32 in fp32, and convolve in the same way every time.

    TF32 keeps 10 of the 23 bits of a factor, and cuDNN may choose among algorithms by how fast they
    ran. Nothing changes on a CPU. `deterministic` does not reach the atomic additions of torch's
    own kernels, which measuring and training avoid.
    """
    if torch.device(device).type != "cuda":
        return
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def to_numpy(values: Tensor) -> NDArray[np.floating]:
    """Return floats of the CPU as an array of the same shape, float32 or float64.

    The memory is shared where the precision is one of these; numpy knows no bfloat16.
    """
    known = values.detach()
    return (known if known.dtype in {torch.float32, torch.float64} else known.float()).numpy()
