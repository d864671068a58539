from __future__ import annotations

import math

from illama_eval.quantize import sensitivity
from illama_eval.studies import STUDIES
from illama_eval.study import Metric
from illama_eval.transfer import probe
from illama_eval.units import UNITS, unit_of


def test_every_metric_has_a_unit_whose_range_is_known():
    declared = [study.metrics for study in STUDIES.values()]
    every = [*declared, sensitivity.METRICS, probe.METRICS]
    assert {metric.unit for metrics in every for metric in metrics.values()} <= set(UNITS)


def test_intervals_and_policies_read_the_same_range():
    assert Metric(unit="cosine").ends == (-1.0, 1.0)
    assert Metric(unit="dB").ends == (-math.inf, math.inf)
    assert Metric(unit="squared distance").ends == (0.0, 2.0)
    assert unit_of("fraction").holds(1.0)
    assert not unit_of("fraction").holds(1.01)
