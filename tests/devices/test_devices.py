"""Tensors stay on their device: the command line on a pretended GPU gives the rows of the CPU."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from illama.interruption import Interrupted
from illama.sources import open_source
from illama.sources.demo import SHAPES
from illama.sources.head import for_head
from illama.sources.source import Source
from illama_eval.results import Run
from illama_eval.run.evaluate import evaluate
from illama_eval.run.job import Options
from illama_eval.studies import STUDIES
from illama_eval.studies.segmentation import Segmentation
from illama_eval.studies.shape_bias import ShapeBias
from illama_eval.study import Study
from illama_eval.subjects.checkpoint import DEMO_CHECKPOINT, open_checkpoint
from illama_eval.subjects.segmenter import DEMO_SEGMENTER, open_segmenter
from illama_eval.subjects.subject import Subject
from illama_eval.transfer.probe import FeatureSet, ProbeConfig, ProbeTask, probe

On = Callable[[str], contextlib.AbstractContextManager[None]]


def test_mixed_devices_raise(on: On) -> None:
    with on("cuda"):
        there = torch.ones(3).to("cuda")
        assert there.device.type == "cuda"
        assert (there + there).device.type == "cuda"
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        assert (there + 1).cpu().tolist() == [2, 2, 2]


@pytest.fixture(scope="module")
def measure(on: On, golden_checkpoint: Path, small_images: Path) -> Callable[..., Run]:
    """Return a function that measures on a device, and stops after some batches if told."""

    def run(device: str, out: Path, stop_after: int | None = None) -> Run:
        batches = iter(range(1000))

        def count(_: int) -> None:
            if next(batches) == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)

        with on(device):
            subject = open_checkpoint(golden_checkpoint, device=torch.device(device))
            source = for_head(open_source(str(small_images)).limit(12, 0), 10)
            studies = [STUDIES[name]() for name in ("accuracy", "collapse", "rank")]
            options = Options(batch_size=4, on_batch=count, samples=False)
            return evaluate(subject, source, studies, out, options)

    return run


@pytest.fixture(scope="module")
def whole(measure: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on the CPU that nothing interrupts."""
    return measure("cpu", tmp_path_factory.mktemp("whole") / "run")


def same_rows(first: Run, second: Run) -> None:
    for one, other in zip(first.rows, second.rows, strict=True):
        assert (one.metric, one.at, one.images) == (other.metric, other.at, other.images)
        assert (one.value is None) == (other.value is None), one
        assert one.value is None or one.value == pytest.approx(other.value, rel=1e-5, abs=1e-7), one


@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_a_run_goes_on_on_another_device(
    measure: Callable[..., Run], whole: Run, tmp_path: Path, first: str, then: str
) -> None:
    with pytest.raises(Interrupted):
        measure(first, tmp_path / "cut", stop_after=1)
    assert (tmp_path / "cut" / "partial-1of1.pt").exists()
    same_rows(measure(then, tmp_path / "cut"), whole)


@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_few_shots_of_a_set_that_leaves_itself_out_are_probed(on: On, kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 4
    features = torch.randn(40, 6, generator=generator) + 2 * labels[:, None]
    results = []
    config = ProbeConfig(probe=kind, neighbours=(3,), grid=(1.0,), shots=(2, "all"), draws=2)
    for device in ("cpu", "cuda"):
        with on(device):
            images = FeatureSet(
                features=features.to(device),
                labels=labels.to(device),
                ids=tuple(map(str, range(40))),
                positions=np.arange(40),
            )
            own = torch.arange(40).to(device) if kind == "knn" else None
            task = ProbeTask(name="x", train=images, test=images, classes=4, own=own)
            results.append(probe(task, config).result.rows)
    for one, other in zip(*results, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-6), one


OF_A_HEAD = [
    *("accuracy", "calibration", "rank", "collapse", "distance", "lens"),
    *("causality", "anytime", "agreement", "feature_agreement"),
]


@pytest.mark.slow
@pytest.mark.parametrize("seen", ["images", "cues", "masks"])
def test_no_batch_waits_for_the_gpu(on: On, waits: Counter[str], seen: str) -> None:
    found = []
    for images in (2, 4):
        with on("cuda"):
            source, subject, studies = open_case(seen, images)
            waits.clear()
            evaluate(subject, source, studies, None, Options(batch_size=2, samples=False))
        found.append(+waits)
    assert not found[1] - found[0]


def open_case(seen: str, images: int) -> tuple[Source, Subject, list[Study]]:
    """Return a source of so many images, a subject on the GPU, and studies of what is seen."""
    device = torch.device("cuda")
    if seen == "masks":
        source = open_source("demo-shapes").limit(images, 0)
        names = source.mask_classes or ()
        return source, open_segmenter(DEMO_SEGMENTER, device=device), [Segmentation(names=names)]
    subject = open_checkpoint(DEMO_CHECKPOINT, device=device)
    if seen == "cues":
        source = open_source("demo", split="cue-conflict").limit(images, 0)
        own = tuple((name, (index,)) for index, name in enumerate(SHAPES))
        return source, subject, [ShapeBias(categories=own)]
    source = for_head(open_source("demo").limit(images, 0), 10)
    return source, subject, [STUDIES[name]() for name in OF_A_HEAD]
