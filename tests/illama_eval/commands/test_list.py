from __future__ import annotations

from collections.abc import Callable


def test_list_names_every_study_source_and_size(
    command: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, _ = command("list")
    assert code == 0
    for name in ("accuracy", "calibration", "rank", "collapse", "cifar10", "photos", "large"):
        assert name in out
    assert "5,701,096" in out
