from __future__ import annotations

import pytest

from illama.config import Config
from illama.training.recipe import RECIPES, RecipeError, find_recipe


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
        ("cutoff_soft=99", "cutoff_soft=99 is more than the 8 epochs"),
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


NAMES = """
tiny-in1k small-in1k base-in1k base-in21k large-in21k base-in1k-384 base-in21k-in1k-224
base-in21k-in1k-384 large-in21k-in1k-224 large-in21k-in1k-384 tiny-cifar10 tiny-cifar100
tiny-llama2 small-llama2 base-llama2 tiny-ade20k base-ade20k segment demo cifar10-nano
""".split()  # noqa: SIM905 - a list of seventeen lines says no more


def test_every_training_of_the_paper_has_its_recipe():
    assert list(RECIPES) == NAMES
    assert all(f"Table{'s' * ('cifar' in name)} " in RECIPES[name].summary for name in NAMES[:15])


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("tiny-in1k", (300, 4096, 4e-3, 0.05, 5, 0.1, 0.1, 0.0, "constant", 50)),
        ("small-in1k", (300, 4096, 4e-3, 0.05, 5, 0.5, 0.5, 0.1, "linear", 50)),
        ("base-in1k", (300, 4096, 4e-3, 0.05, 50, 0.95, 1.0, 0.4, "linear", 25)),
        ("large-in21k", (90, 4096, 1e-3, 0.01, 5, 0.8, 1.0, 0.1, "constant", 30)),
        ("base-in1k-384", (30, 512, 8e-5, 1e-8, 0, 0, 0, 0.8, "constant", 0)),
        ("base-in21k-in1k-384", (30, 512, 1.1e-4, 1e-8, 0, 0, 0, 0.2, "constant", 0)),
        ("large-in21k-in1k-224", (30, 512, 6e-5, 1e-8, 0, 0, 0, 0.3, "constant", 0)),
        ("tiny-cifar100", (300, 1024, 2e-3, 0.05, 50, 0.8, 1.0, 0.0, "linear", 50)),
    ],
)
def test_recipes_have_the_values_of_their_tables(name, known):
    recipe = RECIPES[name]
    assert known == (
        recipe.epochs,
        recipe.batch_size,
        recipe.lr,
        recipe.weight_decay,
        recipe.warmup_epochs,
        recipe.mixup,
        recipe.cutmix,
        recipe.drop_path,
        recipe.mask_schedule,
        recipe.cutoff_soft,
    )
    assert (recipe.rand_augment, recipe.erasing) == ("rand-m9-mstd0.5-inc1", 0.25)
    assert recipe.batch_size % recipe.micro_batch == 0


def test_starting_from_selected_weights_changes_nothing_else():
    for size in ("tiny", "small", "base"):
        changed = RECIPES[f"{size}-llama2"].to_dict()
        scratch = RECIPES[f"{size}-in1k"].to_dict()
        differing = {name for name in scratch if scratch[name] != changed[name]}
        assert differing == {"name", "summary", "start"}


def test_what_may_be_absent_is_set_to_none_and_flags_to_true_or_false():
    changed = find_recipe("tiny-in1k").override(["micro_batch=none", "ema=0.999", "recompute=true"])
    assert (changed.micro_batch, changed.ema, changed.recompute) == (None, 0.999, True)
    with pytest.raises(RecipeError, match="recompute='yes' is not true or false"):
        changed.override(["recompute=yes"])
