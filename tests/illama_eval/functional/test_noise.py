"""A tenth of noise in amplitude is twenty decibels."""

from __future__ import annotations

import math

import torch

from illama_eval.functional.noise import decibels


def test_decibels_are_ten_logarithms_and_infinite_without_noise() -> None:
    found = decibels(torch.tensor([100.0, 1.0, 1.0]), torch.tensor([1.0, 2.0, 0.0]))
    assert torch.allclose(found, torch.tensor([20.0, 10 * math.log10(0.5), math.inf]))
