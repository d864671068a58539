from __future__ import annotations

from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from illama.files import CheckpointError
from illama.training.initial import build
from illama.training.loop import fit
from illama.training.recipe import find_recipe

SMALL = find_recipe("demo").override(
    ["image_size=8", "epochs=3", "batch_size=20", "cutoff_soft=1", "dtype=fp32", "lr=2e-3"]
)
"""The demo's recipe on pictures of five tokens: the same code, a hundredth of the time."""


@pytest.fixture(scope="module")
def trained(small_source, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "small"
    said = StringIO()
    result = fit(SMALL, small_source(), small_source("test", 30), out, console=Console(file=said))
    return SimpleNamespace(out=out, said=said.getvalue(), **vars(result))


def test_training_starts_from_a_checkpoint_with_a_new_head_and_another_size(trained, tmp_path):
    recipe = replace(SMALL, start=str(trained.checkpoint), classes=5, image_size=16, epochs=1)
    model = build(recipe)
    assert torch.equal(
        model.blocks[0].attention.qkv.weight, trained.model.blocks[0].attention.qkv.weight
    )
    assert model.head.weight.shape == (5, 96)
    with pytest.raises(CheckpointError, match="does not fit the recipe's model"):
        build(replace(recipe, size="tiny"))
    with pytest.raises(CheckpointError, match="does not exist"):
        build(replace(recipe, start=str(tmp_path / "none.pth")))
