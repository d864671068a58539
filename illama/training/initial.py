"""The initial model of a training: random weights, or those of a checkpoint."""

from __future__ import annotations

import torch

from illama.checkpoint.load import Checkpoint, read_checkpoint
from illama.config import Config
from illama.files import CheckpointError
from illama.model import Model
from illama.training.recipe import Recipe, RecipeError
from illama.transforms import Transform, evaluation_transform


def build(recipe: Recipe) -> Model:
    """Return the recipe's model: weights drawn from its seed, or those of its `start` checkpoint.

    Raises:
        RecipeError: the recipe has a soft mask, and its masking no soft form.
        CheckpointError: the weights to start from are missing or of another architecture.
    """
    config = Config.at(
        recipe.step, recipe.size, image_size=recipe.image_size, classes=recipe.classes
    )
    if recipe.soft_mask and recipe.cutoff_soft and config.masking != "multiplicative":
        raise RecipeError(
            f"recipe {recipe.name}: step {recipe.step} has the masking {config.masking}, which has"
            " no soft form; set soft_mask=0"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = Model(config)
    if recipe.start is not None:
        fill(model, recipe.start)
    return model


def transform_of(recipe: Recipe) -> Transform:
    """Return the evaluation transform: that of the `start` checkpoint, or the size's.

    Raises:
        CheckpointError: the checkpoint to start from is missing or refused.
    """
    if recipe.start is None:
        return evaluation_transform(recipe.image_size)
    config = Config.at(recipe.step, recipe.size)
    return _read(recipe.start, image_size=recipe.image_size, heads=config.heads).transform


def fill(model: Model, start: str, *, without: tuple[str, ...] = ()) -> None:
    """Load a checkpoint's weights; a head of another number of classes stays as it is.

    Weights whose names begin with one of `without` are skipped.

    Raises:
        CheckpointError: they are missing or of another architecture.
    """
    config = model.config
    found = _read(start, image_size=config.image_size, heads=config.heads).model
    state = found.state_dict()
    if found.config.classes != model.config.classes:
        state = {name: value for name, value in state.items() if not name.startswith("head.")}
    state = {name: value for name, value in state.items() if not name.startswith(without)}
    own = model.state_dict()
    unlike = [name for name in own if name in state and own[name].shape != state[name].shape]
    other = {**own, **state}.keys() - own.keys()
    lacking = [name for name in own if name not in state and not name.startswith("head.")]
    wrong = [*unlike, *other, *lacking]
    if wrong:
        raise CheckpointError(
            f"{start}: does not fit the recipe's model ({len(wrong)} weights, first {wrong[0]});"
            " set size and step to those of the checkpoint"
        )
    model.load_state_dict({**own, **state})


def _read(start: str, *, image_size: int, heads: int) -> Checkpoint:
    """Return a checkpoint to start from, in full precision, with the recipe's heads.

    Raises:
        CheckpointError: it is quantized, or has another number of heads.
    """
    found = read_checkpoint(start, image_size=image_size, heads=heads, soft_mask=0)
    if found.quantization is not None:
        raise CheckpointError(
            f"{start}: is quantized, which cannot be trained; start from the full-precision file"
        )
    other = next((each for each in found.overrides if each.what == "heads"), None)
    if other is not None:
        raise CheckpointError(
            f"{start}: has {other.own} heads, the recipe's model {heads}; set size to that of the "
            "checkpoint"
        )
    return found
