"""Arrays beside a run that are damaged: one line, whatever byte is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from illama_eval.render.samples import read_samples, read_segments
from illama_eval.results import ResultError

EXAMPLES = Path(__file__).parents[3] / "reports" / "examples"


@pytest.mark.parametrize(
    ("run", "name", "read"),
    [("demo", "samples.npz", read_samples), ("segmentation", "segments.npz", read_segments)],
)
def test_damaged_arrays_are_refused_or_whole(tmp_path, run, name, read):
    whole = (EXAMPLES / run / name).read_bytes()
    random = np.random.default_rng(0)
    said = []
    for kind in np.resize(["cut", "anywhere", "end"], 90):
        damaged = bytearray(whole)
        if kind == "cut":
            del damaged[random.integers(len(whole)) :]
        else:
            first = 0 if kind == "anywhere" else len(whole) - 600
            damaged[random.integers(first, len(whole))] ^= 1 << random.integers(8)
        (tmp_path / name).write_bytes(damaged)
        try:
            read(tmp_path)
        except ResultError as problem:
            said.append(str(problem))
    assert len(said) > 60
    assert all(str(tmp_path / name) in each and "\n" not in each for each in said)
