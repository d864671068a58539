"""Batches and pieces as the loop makes them, and runs as it writes them, from plain arrays."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from illama.config import Config
from illama.observation import Batch, OutputSeen
from illama.upernet import Segmenter, SegmenterConfig
from illama_eval.bootstrap import REPLICATE_SCHEME, keys_of, weights_of
from illama_eval.cli import main
from illama_eval.digests import bind
from illama_eval.results import Row, Run, replicate_table
from illama_eval.statistics import percentile_interval
from illama_eval.study import Study, Sums, accumulate
from illama_eval.subjects.segmenter import SegmenterSubject

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """Return a function that runs `illama-eval` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ILLAMA_DATA", raising=False)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["illama-eval", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave figures and pages out, where a test does not look at them."""
    monkeypatch.setattr("illama_eval.commands.evaluate.render_directory", lambda _: None)


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch, sketched: None) -> None:
    """Leave figures out of page and directory, where a test looks at tables and words alone."""
    for draw in ("draw_all", "draw_embedded"):
        monkeypatch.setattr(f"illama_eval.render.report.{draw}", lambda *_: [])


@pytest.fixture(scope="session")
def sketch() -> Callable[[pytest.MonkeyPatch], None]:
    """Return a function that lets figures be composed, and their files be empty."""

    def save(_: object, file: Path | StringIO, **__: object) -> None:
        if isinstance(file, Path):
            file.touch()
        else:
            file.write('<svg xmlns="http://www.w3.org/2000/svg"/>')

    return lambda patch: patch.setattr("matplotlib.figure.Figure.savefig", save)


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch, sketch: Callable[..., None]) -> None:
    """Leave the files of figures empty, where a test looks at their names and words."""
    sketch(monkeypatch)


@pytest.fixture(scope="session")
def segmenter_subject() -> SegmenterSubject:
    """Return a small segmenter of ADE20K's 150 classes."""
    torch.manual_seed(0)
    backbone = Config(image_size=16, patch_size=4, width=16, depth=4, heads=2, classes=1)
    built = Segmenter(SegmenterConfig(backbone=backbone, classes=150)).eval()
    return SegmenterSubject(name="small", segmenter=built)


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """Return a function that makes the batch of some images of a source."""

    def make(labels: Tensor, chosen: Sequence[int] | None = None) -> Batch:
        ids = [f"test/{number:05d}" for number in range(len(labels))]
        keys = keys_of(ids)
        index = torch.arange(len(labels)) if chosen is None else torch.tensor(chosen)
        return Batch(
            ids=tuple(ids[i] for i in index.tolist()),
            labels=labels[index],
            positions=index,
            order=keys.argsort().argsort()[index],
            keys=keys[index],
            weights=weights_of(keys[index]),
            count=len(labels),
            masks=tuple(
                (torch.arange(12).view(3, 4) * (3 + number)) % 6 % 5 for number in index.tolist()
            ),
            cues=torch.stack((labels, (labels + torch.arange(len(labels)) // 3) % 5), 1)[index],
        )

    return make


@pytest.fixture(scope="session")
def total_of(make_batch: Callable[..., Batch]) -> Callable[..., Sums]:
    """Return a function that measures logits [image, class] with a study, group by group."""

    def measure(
        study: Study, logits: Tensor, labels: Tensor, groups: Iterable[Sequence[int]] | None = None
    ) -> Sums:
        total: Sums = {}
        for group in groups or [range(len(labels))]:
            batch = make_batch(labels, list(group))
            piece = OutputSeen(logits=logits[batch.positions], batch=batch)
            accumulate(total, study.measure(piece))
        return total

    return measure


IMAGES = 400
"""Images of the runs that `write_run` writes."""


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """Return a function that writes the run directory of a made-up model.

    Models of equal `accuracy` and different `seed` err on mostly the same images.
    """
    ids = [f"test/{number:05d}" for number in range(IMAGES)]
    weights = weights_of(keys_of(ids)).numpy()

    def write(
        path: Path,
        *,
        accuracy: float = 0.8,
        seed: int = 0,
        sharpness: float = 1.0,
        subject: str = "nano",
        source: str = "cifar10",
        change: Callable[[dict[str, Any]], object] = lambda _: None,
    ) -> Path:
        records = _answers(accuracy, seed, sharpness)
        rows = tuple(
            replace(row, subject=subject, source=source) for row in _rows(records, weights, seed)
        )
        header = _header(subject, source, seed)
        change(header)
        path.mkdir(parents=True)
        np.savez(path / "replicates.npz", **replicate_table(rows))
        stored = {name: values[None] for name, values in records.items()}
        subjects = np.array([subject], dtype=np.str_)
        np.savez(path / "per_image.npz", ids=np.array(ids), subjects=subjects, **stored)
        run = bind(Run(header=header, rows=rows), path)
        (path / "run.json").write_text(run.to_json(), encoding="utf-8")
        return path

    return write


def _answers(accuracy: float, seed: int, sharpness: float) -> dict[str, NDArray[Any]]:
    difficulty = np.random.default_rng(0).random(IMAGES)
    own = np.random.default_rng(1000 + seed)
    wrong = difficulty + own.normal(0, 0.05, IMAGES) > accuracy
    confidence = np.clip(1 - 0.6 * difficulty**sharpness + own.normal(0, 0.02, IMAGES), 0.05, 0.99)
    return {
        "seen": np.ones(IMAGES, dtype=np.int64),
        "prediction": np.where(wrong, 1 + own.integers(0, 9, IMAGES), 0),
        "rank": np.where(wrong, 1 + own.integers(0, 9, IMAGES), 0),
        "confidence": confidence,
        "nll": -np.log(np.where(wrong, 1 - confidence, confidence)),
    }


def _rows(
    records: dict[str, NDArray[Any]], weights: NDArray[np.float64], seed: int
) -> Iterator[Row]:
    total = weights.sum(1)
    for metric, most in (("top1", 1), ("top5", 5)):
        yield _row("accuracy", metric, weights @ (records["rank"] < most) / total)
    yield _row("accuracy", "nll", weights @ records["nll"] / total, unit="nats")
    yield Row(study="accuracy", metric="nonfinite", value=0.0, unit="images", images=IMAGES)
    confidence = records["confidence"]
    gaps = (records["rank"] == 0) - confidence
    bins = np.eye(15)[np.minimum((confidence * 15).astype(int), 14)]
    yield _row("calibration", "ece", np.abs(weights @ (gaps[:, None] * bins)).sum(1) / total)
    spread = np.sqrt(weights @ ((confidence * (1 - confidence))[:, None] * bins))
    yield _row("calibration", "ece_floor", math.sqrt(2 / math.pi) * spread.sum(1) / total)
    ranks = 10 + seed + weights @ confidence / total
    yield _row("rank", "rank_per_image", ranks, unit="index")
    for layer in (1, 2):
        yield _row("rank", "rank_per_image", ranks + layer, {"layer": layer}, unit="index")


def _row(
    study: str,
    metric: str,
    values: NDArray[np.float64],
    at: dict[str, int | str] | None = None,
    unit: str = "fraction",
) -> Row:
    low, high = percentile_interval(values[1:])
    return Row(
        study=study,
        metric=metric,
        value=float(values[0]),
        low=low,
        high=high,
        unit=unit,
        images=IMAGES,
        at=at or {},
        replicates=values[1:],
    )


def _header(subject: str, source: str, seed: int) -> dict[str, Any]:
    identity = {
        "weights_sha256": f"{seed:064x}",
        "soft_mask": 0.0,
        "dtype": "fp32",
        "transform": {"image_size": 32, "interpolation": "bicubic"},
    }
    accuracy = {
        "top1": {"better": "higher", "tolerance": 1e-3, "interval": "percentile"},
        "top5": {"better": "higher", "tolerance": 1e-3, "interval": "percentile"},
        "nll": {"better": "lower", "tolerance": 5e-3, "interval": "percentile"},
        "nonfinite": {"better": "lower", "tolerance": 0.0, "interval": "percentile"},
    }
    error = {"better": "lower", "tolerance": 2e-3, "interval": "basic"}
    return {
        "device": "cpu",
        "identity": {
            "subjects": {"0": identity},
            "source": {"fingerprint": "f" * 64, "class_subset": None},
            "studies": {"accuracy": {}, "calibration": {"bins": 15}, "rank": {"threshold": 0.8}},
            "replicate_scheme": REPLICATE_SCHEME,
        },
        "subjects": [{"name": subject}],
        "source": {"name": source, "images": IMAGES},
        "metrics": {
            "accuracy": accuracy,
            "calibration": {"ece": error},
            "rank": {"rank_per_image": {"better": None, "interval": "percentile"}},
        },
    }
