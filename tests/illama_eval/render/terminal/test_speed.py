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


def test_the_table_has_milliseconds_speed_and_memory_and_a_sentence_the_ratios(printed, timed):
    title, _, _, *lines = (line.strip() for line in printed(show_speed, timed).splitlines())
    assert title == "nano against its bidirectional twin"
    assert [" ".join(line.split()) for line in lines[:4]] == [
        "1 model 10.00 9.00 to 11.00 100.0 3",
        "1 twin 8.00 7.20 to 8.80 125.0 3",
        "16 model 160.00 144.00 to 176.00 100.0 3",
        "16 twin 128.00 115.20 to 140.80 125.0 3",
    ]
    said = " ".join(" ".join(lines[4:]).split())
    assert said == (
        "It is 0.80 times (1 at once) and 0.80 times (16 at once) as fast as its twin. "
        "2.0000 GMACs dense, 1.9000 by the paper's causal formula (5.0 % fewer)."
    )


def test_a_terminal_of_50_columns_keeps_latency_and_speed(printed, timed):
    text = printed(show_speed, timed, width=50)
    assert max(map(len, text.splitlines())) <= 50
    assert "160.00" in text
    assert "images/s" in text
