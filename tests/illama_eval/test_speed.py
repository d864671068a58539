"""Times of quantized models, and none where the arithmetic is simulated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from illama.config import Config
from illama.model import Model
from illama.transforms import Transform, evaluation_transform
from illama_eval import speed
from illama_eval.speed import Timed, measure_latency
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.wrap import wrap


@pytest.fixture
def subjects(monkeypatch) -> list[ModelSubject]:
    """Return three models of one kind whose passes take 4, 2 and 1 s by the clock."""
    model = Model(Config(image_size=16, patch_size=8, width=16, depth=1, heads=1, classes=4))
    transform = evaluation_transform(16)

    def pretend(forwards, images, seconds):
        seconds = dict(zip(forwards, (4.0, 2.0, 1.0), strict=False))
        return {
            name: Timed(batch=len(images), seconds=(taken,) * 9) for name, taken in seconds.items()
        }

    monkeypatch.setattr(speed, "time_interleaved", pretend)
    return [ModelSubject(name=name, model=model, transform=transform) for name in "abc"]


def test_speedups_are_against_the_first_model_in_the_same_mode(subjects):
    rows = list(measure_latency(subjects, [False, False, False], "eager"))
    found = {(r.subject, r.metric, r.at["batch"]): r.value for r in rows}
    assert [found[name, "speedup", 64] for name in "abc"] == [1, 2, 4]
    assert found["b", "latency", 1] == 2
    assert found["b", "images_per_second", 64] == 32
    assert {row.at["mode"] for row in rows} == {"eager"}


@pytest.mark.parametrize(("latency", "batches"), [(None, []), ("both", [1, 64])])
def test_nothing_is_compiled_after_the_time_is_over_unless_asked(
    subjects, monkeypatch, latency, batches
):
    monkeypatch.setattr(speed, "SECONDS", -1.0)
    monkeypatch.setattr(speed.torch, "compile", lambda model, **_: model)
    rows = list(measure_latency(subjects[:2], [False, False], latency))
    timed = [row for row in rows if row.metric == "speedup" and row.subject == "b"]
    assert [row.at["batch"] for row in timed if row.at["mode"] == "eager"] == [1, 64]
    assert [row.at["batch"] for row in timed if row.at["mode"] == "compiled"] == batches
    missing = [row for row in rows if row.value is None]
    assert [row.at["batch"] for row in missing] == [each for each in (1, 64) if not batches]
    assert all("--latency both" in row.reason for row in missing)


def test_passes_end_with_their_time_but_not_before_the_fewest():
    images = torch.zeros(1, 3, 2, 2)
    timed = speed.time_interleaved({"a": torch.sum, "b": torch.sum}, images, 0.0)
    assert {name: len(each.seconds) for name, each in timed.items()} == {"a": 5, "b": 5}


def test_simulated_models_are_not_timed(subjects):
    rows = list(measure_latency(subjects, [False, True, False], "eager"))
    assert [row.value for row in rows if row.subject == "b"] == [None]
    assert all("simulated" in row.reason for row in rows if row.subject == "b")
    lone = list(measure_latency(subjects[:2], [False, True], "eager"))
    assert [row.subject for row in lone] == ["b"]


def test_nothing_is_timed_where_nothing_is_asked(subjects):
    assert list(measure_latency(subjects, [False, False, True], "none")) == []


def test_a_network_that_is_no_model_of_illama_is_timed_on_its_own_images(monkeypatch):
    monkeypatch.setattr(speed, "BATCHES", (1, 2))
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
    network = wrap(module, Transform(image_size=8, resize="warp"), 10)
    rows = list(measure_latency([network, network], [False, False], "eager"))
    assert [row.at["batch"] for row in rows if row.metric == "latency"] == [1, 1, 2, 2]
    assert all(row.value > 0 for row in rows)
