from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from illama_eval.results import Run


def test_speed_compares_with_the_bidirectional_twin(
    command: Callable[..., tuple[int, str, str]],
    undrawn: None,
    golden_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("illama_eval.speed.SECONDS", 0.1)
    monkeypatch.setattr("illama_eval.speed._peak", lambda *_: 2**20)
    code, out, err = command("speed", golden_checkpoint, "--out", "out")
    assert code == 0, err
    assert "twin" in out
    timing = Run.from_json((tmp_path / "out" / "timing.json").read_text())
    for batch in (1, 64):
        assert timing.value("speed", "speed_ratio", batch=batch).value > 0
    counted = Run.load(tmp_path / "out")
    dense, causal = (counted.value("speed", f"macs_{kind}").value for kind in ("dense", "causal"))
    tokens, width, depth = 17, 96, 3
    assert dense - causal == depth * width * (tokens**2 - tokens**2 // 2 - 1)
