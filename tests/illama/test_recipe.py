from __future__ import annotations

import pytest

from illama.config import Config
from illama.recipe import RECIPES, RecipeError, find_recipe


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_every_recipe_builds_a_config_and_ends_causal(recipe):
    config = Config.at(
        recipe.step, recipe.size, image_size=recipe.image_size, classes=recipe.classes
    )
    assert config.classes == recipe.classes
    assert recipe.cutoff_soft < recipe.epochs or recipe.soft_mask == 0
    assert recipe.summary
    assert "\n" not in recipe.summary


def test_overridden_fields_have_the_type_of_the_field():
    changed = find_recipe("demo").override(
        ["lr=2e-3", "epochs=9", "mask_schedule=linear", "data=cifar10"]
    )
    assert (changed.lr, changed.epochs, changed.mask_schedule, changed.data) == (
        2e-3,
        9,
        "linear",
        "cifar10",
    )
    assert changed.size == find_recipe("demo").size


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("rate=1", "no field 'rate'"),
        ("name=other", "no field 'name'"),
        ("lr", "lr='' is not a number"),
        ("epochs=2.5", "epochs='2.5' is not a whole number"),
        ("mask_schedule=cosine", "is not one of constant, linear"),
        ("soft_mask=1.5", "soft_mask=1.5 is not in 0..1"),
        ("lr=nan", "lr=nan is not in"),
        ("epochs=0", "epochs=0 is not in"),
        ("cutoff_soft=99", "cutoff_soft=99 lies beyond the last of"),
    ],
)
def test_what_does_not_fit_a_recipe_is_refused_in_one_line(assignment, words):
    with pytest.raises(RecipeError) as refused:
        find_recipe("demo").override([assignment])
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_recipe_is_refused_with_the_names_there_are():
    with pytest.raises(RecipeError, match="no recipe 'dema'; there are tiny-in1k, small-in1k"):
        find_recipe("dema")
