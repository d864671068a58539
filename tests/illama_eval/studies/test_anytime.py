"""Anytime: the shares of the image, the full answer, and the known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from illama.config import Config
from illama.model import Model
from illama.sources.source import make_source
from illama.transforms import evaluation_transform
from illama_eval.run.evaluate import evaluate
from illama_eval.run.job import Options
from illama_eval.studies.accuracy import Accuracy
from illama_eval.studies.anytime import Anytime
from illama_eval.subjects.checkpoint import ModelSubject, open_checkpoint


def value(run, metric, **at):
    (only,) = [row.value for row in run.rows if row.metric == metric and dict(row.at) == at]
    return only


@pytest.fixture(name="measured", scope="module")
def fixture_measured():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
    names = [f"noise/{i}" for i in range(30)]
    images = make_source(
        name="noise", split="test", names=names, labels=np.arange(30) % 5, contents=names,
        read=pixels.__getitem__,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Model(Config(image_size=16, patch_size=4, width=16, depth=2, heads=2, classes=5)).eval()
    one = ModelSubject(name="tiny", model=model, transform=evaluation_transform(16))

    def run(size):
        return evaluate(one, images, [Accuracy(), Anytime()], options=Options(batch_size=size))

    return run


def test_the_whole_image_is_the_plain_answer(measured):
    run = measured(30)
    assert value(run, "prefix_top1", given="100 %") == value(run, "top1")
    assert value(run, "prefix_agreement", given="100 %") == 1
    shares = [value(run, "prefix_top1", given=f"{share} %") for share in (25, 50, 75)]
    assert value(run, "prefix_top1") == pytest.approx(sum(shares) / 3)


def test_batches_do_not_change_the_rows(measured):
    for one, other in zip(measured(30).rows, measured(7).rows, strict=True):
        assert (one.metric, one.at, one.images) == (other.metric, other.at, other.images)
        assert one.value == pytest.approx(other.value, abs=1e-6)


@pytest.mark.data
@pytest.mark.slow
def test_a_causal_model_knows_no_more_early_than_its_twin(shared, cifar10):
    known = {"illama": (0.294, 0.502, 0.707, 0.778), "bidirectional": (0.309, 0.491, 0.698, 0.756)}
    for name, expected in known.items():
        path = shared / "checkpoints" / f"{name}_cifar10_nano.pth"
        soft = float(name == "bidirectional")
        one = open_checkpoint(path, device=torch.device("cpu"), soft_mask=soft)
        run = evaluate(one, cifar10.limit(1000, 0), [Anytime()])
        for share, near in zip((25, 50, 75, 100), expected, strict=True):
            assert value(run, "prefix_top1", given=f"{share} %") == pytest.approx(near, abs=0.05)
