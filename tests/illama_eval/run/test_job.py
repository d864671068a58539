from __future__ import annotations

from pathlib import Path

import pytest

from illama.sources import open_source
from illama_eval.results import ResultError
from illama_eval.run.evaluate import evaluate
from illama_eval.studies import STUDIES
from illama_eval.subjects.checkpoint import ModelSubject


def test_a_study_that_needs_labels_refuses_a_source_without(
    subject: ModelSubject, tmp_path: Path
) -> None:
    with pytest.raises(ResultError, match="accuracy needs labels"):
        evaluate(subject, open_source("photos"), [STUDIES["accuracy"]()])
