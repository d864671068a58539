"""Settings of one checkpoint on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from illama.exits import UsageError
from illama_eval.commands.checkpoints import parse_checkpoint, transform_options


def test_settings_follow_the_path():
    found = parse_checkpoint(Path("a/b.pth:soft_mask=1,heads=6,mean=0.5,0.5,0.5,crop=none,ema=1"))
    assert found.path == Path("a/b.pth")
    assert found.settings == {"soft_mask": 1.0, "heads": 6, "ema": True}
    assert found.transform == {"mean": "0.5,0.5,0.5", "crop": "none"}


def test_a_path_alone_has_no_settings(tmp_path):
    odd = tmp_path / "b.pth:heads=6"
    odd.write_bytes(b"")
    for path in (Path("b.pth"), Path("c:/b.pth"), odd):
        assert parse_checkpoint(path).path == path
        assert not parse_checkpoint(path).settings


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("b.pth:haeds=6", "did you mean heads?"),
        ("b.pth:color=red", "there are soft_mask"),
        ("b.pth:heads=none", "heads=none: give a positive whole number"),
        ("b.pth:heads=0", "heads=0"),
        ("b.pth:soft_mask=2", "from 0 to 1"),
        ("b.pth:masking=causal", "multiplicative"),
        ("b.pth:ema=yes", "give 0 or 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(word, said):
    with pytest.raises(UsageError) as caught:
        parse_checkpoint(Path(word))
    assert said in str(caught.value)


def test_the_setting_of_one_checkpoint_comes_before_the_option_of_all():
    options = transform_options({"mean": "0.1", "std": None}, {"mean": "0.2"})
    assert options.given() == {"mean": (0.2, 0.2, 0.2)}
