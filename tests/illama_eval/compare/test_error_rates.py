"""False alarms and power of `compare` and the gate, simulated; docs/gate.md has many more pairs."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "gate.py"
MOST = 0.08
"""Largest share of false alarms, over all metrics together."""


@pytest.fixture(scope="module")
def gate():
    spec = importlib.util.spec_from_file_location("benchmark_of_the_gate", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def slack(share, pairs):
    """Three standard errors of a share."""
    return 3 * math.sqrt(share * (1 - share) / pairs)


def test_a_pair_is_judged_by_the_code_of_the_product(gate):
    found = gate.simulate(30, 0.0, 2)
    assert (found.images, found.pairs) == (30, 2)
    worse = gate.simulate(300, 30.0, 1)
    assert (worse.compare_top1, worse.gate, worse.gate_top1) == (1, 1, 1)
    assert len(list(gate.to_markdown([found, worse]))) == 4


@pytest.mark.slow
@pytest.mark.parametrize("images", [30, 100, 2000])
def test_equal_models_seldom_raise_an_alarm(gate, images):
    pairs = 30
    found = gate.simulate(images, 0.0, pairs, seed=1)
    print(found)  # noqa: T201 - pytest -rP
    for share in (found.compare_any, found.gate):
        assert share <= MOST + slack(MOST, pairs)


@pytest.mark.slow
def test_two_points_are_seen_on_2000_images(gate):
    found = gate.simulate(2000, 2.0, 12, seed=1)
    print(found)  # noqa: T201 - pytest -rP
    assert found.gate == 1
    assert found.compare_top1 >= 0.7
