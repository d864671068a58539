from __future__ import annotations

from illama.checkpoint import released
from illama.config import SIZES


def test_every_published_file_has_its_own_sha256_and_names_its_accuracy():
    assert len({file.sha256 for file in released.RELEASED}) == 8
    for file in released.RELEASED:
        assert len(file.sha256) == 64
        assert file.name.endswith(f"-{100 * file.top1:.1f}")
        assert file.name.split("-")[1] in SIZES
        assert released.identify(file.sha256) is file
