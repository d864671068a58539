"""A small run, and one with replicates beside it."""

from __future__ import annotations

import numpy as np
import pytest

from illama_eval.results import Curve, Row, Run, Verdict, replicate_table


@pytest.fixture(scope="session")
def make_run():
    """Return a function that makes a run of two rows, with other parts where they are given."""
    return _make_run


@pytest.fixture(scope="session")
def stored_run():
    """Return a function that writes a run whose replicates lie beside it, and returns it."""
    return _stored_run


def _make_run(**changes):
    rows = (
        Row(subject="a", source="s", study="accuracy", metric="top1", value=0.5, images=4),
        Row(
            subject="a",
            source="s",
            study="rank",
            metric="rank_per_image",
            value=None,
            unit="index",
            images=4,
            at={"layer": 1, "head": 2, "map": "softmax"},
            reason="not finite",
        ),
    )
    curves = (Curve(subject="a", study="rank", name="cumulative", x=(1.0, 2.0), y=(0.1, 1.0)),)
    verdicts = (Verdict(subject="a", study="collapse", name="sinks", verdict="no", reason="r"),)
    parts = {"header": {"seed": 0}, "rows": rows, "curves": curves, "verdicts": verdicts}
    return Run(**{**parts, **changes})


def _stored_run(directory):
    """Write a run whose replicates lie beside it; return it."""
    random = np.random.default_rng(0)
    places = [{"layer": 1}, {}, {"layer": 2}, {}]
    rows = tuple(
        Row(
            study="rank",
            metric=f"m{number}",
            value=0.5,
            images=4,
            at=place,
            replicates=random.normal(size=200),
        )
        for number, place in enumerate(places)
    )
    curve = Curve(study="rank", name="c", x=(1.0,), y=(1.0,))
    run = Run(header={}, rows=rows, curves=(curve,))
    (directory / "run.json").write_text(run.to_json(), encoding="utf-8")
    np.savez_compressed(directory / "replicates.npz", **replicate_table(rows))
    return run
