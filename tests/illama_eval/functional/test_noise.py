"""Squares are summed by weight; a tenth of noise in amplitude is twenty decibels."""

from __future__ import annotations

import math

import torch

from illama.observation import Batch
from illama_eval.functional.noise import decibels, signal_and_noise


def test_decibels_are_ten_logarithms_and_infinite_without_noise() -> None:
    found = decibels(torch.tensor([100.0, 1.0, 1.0]), torch.tensor([1.0, 2.0, 0.0]))
    assert torch.allclose(found, torch.tensor([20.0, 10 * math.log10(0.5), math.inf]))


def test_squares_are_summed_over_an_image_and_weighted_over_the_images() -> None:
    batch = Batch(
        ids=("a", "b"),
        labels=torch.zeros(2, dtype=torch.int64),
        positions=torch.arange(2),
        order=torch.arange(2),
        keys=torch.arange(2),
        weights=torch.tensor([[1.0, 1.0], [0.0, 3.0]], dtype=torch.float64),
        count=2,
    )
    reference = torch.tensor([[[1.0], [2.0]], [[3.0], [0.0]]], dtype=torch.float64)
    values = reference + torch.tensor([[[1.0], [1.0]], [[0.0], [2.0]]], dtype=torch.float64)
    signal, noise = signal_and_noise(batch, reference, values)
    assert signal.tolist() == [14.0, 27.0]
    assert noise.tolist() == [6.0, 12.0]
