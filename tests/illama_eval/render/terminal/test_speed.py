from __future__ import annotations

import pytest

from illama_eval.render.terminal.speed import show_speed
from illama_eval.results import Row, Run


@pytest.fixture
def timed():
    """Return a speed measurement: the model takes 10 ms for an image, its twin 8."""
    rows = [
        Row(subject="nano", study="speed", metric=f"macs_{kind}", value=value, images=1)
        for kind, value in (("dense", 2e9), ("causal", 1.9e9))
    ]
    for batch in (1, 16):
        for model, seconds in (("model", 0.010 * batch), ("twin", 0.008 * batch)):
            at = {"batch": batch, "model": model}
            for metric, value, low, high in (
                ("latency", seconds, 0.9 * seconds, 1.1 * seconds),
                ("images_per_second", batch / seconds, None, None),
                ("peak_memory", 3 * 2**20, None, None),
            ):
                row = {"subject": "nano", "study": "speed", "metric": metric, "images": batch}
                rows.append(Row(**row, value=value, low=low, high=high, at=at))
        ratio = {"study": "speed", "metric": "speed_ratio", "images": batch}
        rows.append(Row(subject="nano", **ratio, value=0.8, at={"batch": batch}))
    return Run(header={}, rows=tuple(rows))


def test_the_table_has_milliseconds_speed_memory_and_one_ratio_per_batch(printed, timed):
    text = printed(show_speed, timed)
    assert text.startswith(
        "nano: 2.0000 GMACs dense, 1.9000 with the paper's causal formula (5.0% fewer)"
    )
    cells = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]
    assert cells == [
        ["1", "model", "10.00 (9.00-11.00)", "100.0", "3", "0.800"],
        ["1", "twin", "8.00 (7.20-8.80)", "125.0", "3", ""],
        ["16", "model", "160.00 (144.00-176.00)", "100.0", "3", "0.800"],
        ["16", "twin", "128.00 (115.20-140.80)", "125.0", "3", ""],
    ]
