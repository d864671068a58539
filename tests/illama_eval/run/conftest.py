"""A small subject, its run on noise, and the run's directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from illama.sources import open_source
from illama.sources.head import for_head
from illama_eval.results import Run
from illama_eval.run.evaluate import evaluate
from illama_eval.run.job import Options
from illama_eval.studies import STUDIES
from illama_eval.subjects.checkpoint import ModelSubject, open_checkpoint


@pytest.fixture(scope="session")
def subject(golden_checkpoint: Path) -> ModelSubject:
    return open_checkpoint(golden_checkpoint, device=torch.device("cpu"))


@pytest.fixture(scope="session")
def measure(subject: ModelSubject, small_images: Path) -> Callable[..., Run]:
    """Return a function that measures the noise with all studies that fit it, into a directory."""

    def run(out: Path, measured: ModelSubject = subject, **options: object) -> Run:
        source = for_head(open_source(str(small_images)), 10)
        studies = [study() for study in STUDIES.values() if study.requires <= {"labels"}]
        return evaluate(measured, source, studies, out, Options(batch_size=4, **options))

    return run


@pytest.fixture(scope="session")
def whole(measure: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    measure(out)
    return out
