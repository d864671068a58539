"""The fitted temperature: against a general optimiser, at its bounds, and from sums alone."""

from __future__ import annotations

import math

import pytest
import torch

from illama_eval.functional.predictions import LARGEST_NLL, predict
from illama_eval.functional.temperature import (
    GRID,
    HIGHEST,
    LOWEST,
    LossCurve,
    fit_temperature,
    rescale,
    sum_losses,
)


def sample(temperature, count=3000, classes=7, seed=0):
    """Return logits that are calibrated once divided by the temperature, and labels."""
    generator = torch.Generator().manual_seed(seed)
    calibrated = 2 * torch.randn(count, classes, generator=generator).double()
    labels = torch.multinomial(calibrated.softmax(-1), 1, generator=generator)[:, 0]
    return (calibrated * temperature).float(), labels


def curve_of(logits, labels):
    return LossCurve(sums=sum_losses(logits, labels, GRID), images=len(labels))


@pytest.mark.parametrize("temperature", [0.2, 0.7, 1.0, 1.8, 6.0])
def test_the_temperature_of_scaled_logits_is_found(temperature):
    fit = fit_temperature(*sample(temperature))
    assert fit.temperature == pytest.approx(temperature, rel=0.05)
    assert not fit.note
    assert fit.images == 3000


@pytest.mark.parametrize("temperature", [0.2, 1.8])
def test_the_fit_is_the_minimum_that_scipy_finds(temperature):
    from scipy.optimize import minimize_scalar

    logits, labels = sample(temperature)

    def loss(logarithm):
        scaled = logits.double() * math.exp(-logarithm)
        return torch.nn.functional.cross_entropy(scaled, labels).item()

    found = minimize_scalar(loss, bracket=(-1, 1), tol=1e-14)
    fit = fit_temperature(logits, labels)
    assert fit.temperature == pytest.approx(math.exp(found.x), rel=1e-6)
    assert loss(math.log(fit.temperature)) <= found.fun + 1e-14


def test_scaling_all_logits_scales_the_temperature():
    logits, labels = sample(1.3)
    fit, doubled = fit_temperature(logits, labels), fit_temperature(2 * logits, labels)
    assert doubled.temperature == pytest.approx(2 * fit.temperature, rel=1e-12)


def test_slope_and_curvature_are_the_derivatives_of_the_loss():
    logits, labels = sample(1.5, count=50)
    inverse = torch.tensor([0.8], dtype=torch.float64, requires_grad=True)
    losses = torch.nn.functional.cross_entropy(logits.double() * inverse, labels, reduction="sum")
    (slope,) = torch.autograd.grad(losses, inverse, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, inverse)
    found = sum_losses(logits, labels, inverse.detach())[0]
    assert found.tolist() == pytest.approx([losses.item(), slope.item(), curvature.item()])


def test_losses_add_over_images():
    logits, labels = sample(1.5, count=50)
    parts = [sum_losses(logits[rows], labels[rows], GRID) for rows in (slice(20), slice(20, 50))]
    assert torch.allclose(sum(parts), sum_losses(logits, labels, GRID), rtol=1e-12)


@pytest.mark.parametrize("fit", [fit_temperature, lambda *case: curve_of(*case).fit()])
def test_a_minimum_out_of_bounds_is_told(fit):
    logits, labels = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), None
    labels = logits.argmax(-1)
    surest = fit(logits, labels)
    assert (surest.temperature, surest.note) == (LOWEST, f"stopped at the bound {LOWEST}")
    wrong = fit(logits, logits.argmin(-1))
    assert (wrong.temperature, wrong.note) == (HIGHEST, f"stopped at the bound {HIGHEST:g}")


@pytest.mark.parametrize("fit", [fit_temperature, lambda *case: curve_of(*case).fit()])
def test_constant_logits_have_no_temperature_of_their_own(fit):
    found = fit(torch.ones(5, 4), torch.arange(5) % 4)
    assert found.temperature == 1
    assert "every temperature" in found.note


def test_no_image_gives_no_temperature():
    for fit in (
        fit_temperature(torch.empty(0, 3), torch.empty(0).long()),
        LossCurve(sums=torch.zeros(len(GRID), 3).double(), images=0).fit(),
    ):
        assert math.isnan(fit.temperature)
        assert fit.images == 0
        assert "no image" in fit.note


def test_images_without_a_finite_loss_take_no_part():
    logits, labels = sample(1.5, count=200)
    broken = torch.tensor([[math.nan] * 7, [-math.inf] * 7, [0.0] * 6 + [-math.inf]])
    more, truth = torch.cat((broken, logits)), torch.cat((torch.tensor([0, 1, 6]), labels))
    assert fit_temperature(more, truth) == fit_temperature(logits, labels)


def test_a_probability_of_zero_stays_zero_at_any_temperature():
    logits, labels = sample(1.5, count=200)
    masked = torch.cat((logits, torch.full((200, 1), -math.inf)), dim=1)
    assert fit_temperature(masked, labels).temperature == pytest.approx(
        fit_temperature(logits, labels).temperature, rel=1e-12
    )
    confidence, nll, _ = rescale(masked, torch.full((200,), 3.0), torch.full((200,), 7))
    assert (nll == LARGEST_NLL).all()
    assert confidence.isfinite().all()


def test_rescaling_divides_each_images_logits_by_its_own_temperature():
    logits, labels = sample(1.5, count=10)
    temperatures = torch.linspace(0.5, 3, 10).double()
    confidence, nll, brier = rescale(logits, temperatures, labels)
    for image in range(10):
        alone = predict(logits[image, None].double() / temperatures[image], labels[image, None])
        assert confidence[image] == alone.confidence[0]
        assert nll[image] == alone.nll[0]
        assert brier[image] == alone.brier[0]


@pytest.mark.parametrize("temperature", [0.06, 0.2, 0.7, 1.0, 1.8, 6.0, 18.0])
def test_sums_on_a_grid_are_enough_for_temperature_and_loss(temperature):
    logits, labels = sample(temperature)
    curve, fit = curve_of(logits, labels), fit_temperature(logits, labels)
    assert curve.fit().temperature == pytest.approx(fit.temperature, rel=1e-4)
    inverse = torch.tensor([1 / temperature], dtype=torch.float64)
    exact = sum_losses(logits, labels, inverse)[0, 0].item()
    assert curve.loss_at(temperature) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("temperature", [LOWEST, 1.0, HIGHEST])
def test_the_loss_curve_reaches_from_bound_to_bound(temperature):
    logits, labels = sample(1.0, count=100)
    inverse = torch.tensor([1 / temperature], dtype=torch.float64)
    exact = sum_losses(logits, labels, inverse)[0, 0].item()
    assert curve_of(logits, labels).loss_at(temperature) == pytest.approx(exact, rel=1e-5)
