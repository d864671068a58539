from __future__ import annotations

from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from illama.checkpoint.load import read_checkpoint
from illama.checkpoint.quantized import install, serialize
from illama.checkpoint.quantized_weight import QuantizedWeight, WeightLayout
from illama.checkpoint.save import save_checkpoint
from illama.files import CheckpointError
from illama.training.classification import Classification
from illama.training.initial import build, transform_of
from illama.training.loop import fit
from illama.training.recipe import find_recipe
from illama.transforms import evaluation_transform

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


def test_a_training_stores_its_transform(trained):
    seen = read_checkpoint(trained.checkpoint)
    assert seen.transform == evaluation_transform(8)
    assert seen.assumptions == ()


def test_a_training_prepares_images_as_the_checkpoint_it_starts_from(trained, tmp_path):
    transform = replace(evaluation_transform(8), mean=(0.5,) * 3, std=(0.5,) * 3)
    path = tmp_path / "start.safetensors"
    save_checkpoint(trained.model, path, transform=transform)
    recipe = replace(SMALL, start=str(path))
    assert transform_of(recipe) == transform
    task = Classification()
    task.save(task.build(recipe), tmp_path / "next.safetensors")
    assert read_checkpoint(tmp_path / "next.safetensors").transform == transform


def test_a_quantized_file_is_nothing_to_start_from(trained, tmp_path, quantized_nano):
    path = tmp_path / "quantized.safetensors"
    path.write_bytes(serialize(*quantized_nano(trained.model), {"scheme": "w8"}, soft_mask=0.0))
    with pytest.raises(CheckpointError, match="is quantized, which cannot be trained"):
        build(replace(SMALL, start=str(path)))


@pytest.fixture
def quantized_nano():
    """Return a function that quantizes one layer of a copy of the trained model."""

    def make(model):
        copy = build(SMALL).eval()
        copy.load_state_dict(model.state_dict())
        layer = copy.blocks[0].feed_forward.down
        out, width = layer.weight.shape
        form = WeightLayout(shape=(out, width), bits=8, group=width)
        weight = QuantizedWeight(
            form=form,
            values=torch.ones(out, width, dtype=torch.int8),
            scale=torch.ones(out, 1),
            zero=None,
        )
        weights = {"blocks.0.feed_forward.down": weight}
        install(copy, weights)
        return copy, weights

    return make
