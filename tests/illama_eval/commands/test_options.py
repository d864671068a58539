"""What the shared options mean together."""

from __future__ import annotations

from pathlib import Path

import pytest

from illama_eval.commands.options import SharedOptions


@pytest.mark.parametrize(
    ("given", "variable", "chosen"),
    [
        ({}, None, "demo"),
        ({}, "photographs", "demo"),
        ({"checkpoints": [Path("model.pth")]}, "photographs", "photographs"),
        ({"checkpoints": [Path("model.pth")]}, None, None),
        ({"models": ["timm:deit_tiny_patch16_224"]}, "photographs", "photographs"),
        ({"models": ["timm:deit_tiny_patch16_224"]}, None, None),
        ({"data": "digits"}, "photographs", "digits"),
    ],
)
def test_images_are_those_given_then_those_of_the_environment_then_the_demo(
    given, variable, chosen, monkeypatch
):
    monkeypatch.delenv("ILLAMA_DATA", raising=False)
    if variable is not None:
        monkeypatch.setenv("ILLAMA_DATA", variable)
    assert SharedOptions(**given).choose_data("demo") == chosen


def test_without_the_bundled_checkpoint_its_images_are_not_measured(monkeypatch):
    monkeypatch.delenv("ILLAMA_DATA", raising=False)
    assert SharedOptions().choose_data(None) is None
    monkeypatch.setenv("ILLAMA_DATA", "photographs")
    assert SharedOptions().choose_data(None) == "photographs"
