from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from illama.config import Config
from illama.model import Model
from illama.training.initial import build
from illama.training.loader import Batch
from illama.training.recipe import RecipeError, find_recipe
from illama.training.trainer import LossError, Trainer, draw_kept, follow, parameter_groups

SMALL = find_recipe("demo").override(
    [
        *("size=micro", "image_size=8", "epochs=3", "batch_size=20", "cutoff_soft=1"),
        *("dtype=fp32", "lr=2e-3"),
    ]
)


def batch(images=20, index=0, value=None):
    generator = torch.Generator().manual_seed(index)
    pixels = torch.randn(images, 3, 8, 8, generator=generator)
    return Batch(
        images=pixels if value is None else torch.full_like(pixels, value),
        labels=torch.arange(images) % 10,
        positions=np.arange(images) + 100 * index,
        index=index,
    )


def losses(recipe, steps=20):
    trainer = Trainer(recipe, 1000)
    return [trainer.take_step(100 + k, [batch()]).record["train_loss"] for k in range(steps)]


def test_the_loss_falls_on_a_few_images():
    seen = losses(replace(SMALL, lr=2e-2), 25)
    assert seen[0] == pytest.approx(math.log(10), abs=0.3)
    assert seen[-1] < 0.7 * seen[0]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_low_products_leave_the_weights_in_fp32(dtype):
    trainer = Trainer(replace(SMALL, dtype=dtype), 1000)
    seen = [trainer.take_step(100 + k, [batch()]).record["train_loss"] for k in range(8)]
    assert seen[-1] < seen[0]
    assert seen == pytest.approx(losses(SMALL, 8), abs=0.03)
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_vectors_biases_positions_and_class_token_do_not_decay():
    model = Model(Config.at("soft-mask", "nano"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, spared = ([names[id(p)] for p in g["params"]] for g in parameter_groups(model, 0.05))
    assert [g["weight_decay"] for g in parameter_groups(model, 0.05)] == [0.05, 0.0]
    assert sorted(decayed + spared) == sorted(names.values())
    assert {"class_token", "position_embedding", "norm.weight", "head.bias"} < set(spared)
    assert {"patch_embedding.weight", "head.weight", "blocks.0.feed_forward.up.weight"} < set(
        decayed
    )
    assert len(spared) == 2 + 13 + 2 + 6 * 2  # norms; patch and head biases; qkv and projection


def test_every_optimizer_step_gets_its_own_rates_and_soft_mask(monkeypatch):
    recipe = replace(
        SMALL, mask_schedule="linear", cutoff_soft=2, soft_mask=0.9, weight_decay_end=0.2
    )
    trainer = Trainer(recipe, 50)
    seen, run = [], trainer.run
    monkeypatch.setattr(
        trainer,
        "run",
        lambda images, soft_mask, kept: seen.append(soft_mask) or run(images, soft_mask, kept),
    )
    taken = [trainer.take_step(step, [batch()]).record for step in range(6)]
    assert seen == pytest.approx([0.9, 0.6, 0.3, 0.0, 0.0, 0.0])
    assert [each["train_soft_mask_rate"] for each in taken] == seen
    assert [each["train_lr"] for each in taken[:3]] == [0, 2e-3, 2e-3]
    decayed, spared = trainer.optimizer.param_groups
    assert decayed["lr"] == spared["lr"] == taken[-1]["train_lr"]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (taken[-1]["train_weight_decay"], 0)
    assert 0.05 < taken[1]["train_weight_decay"] < taken[2]["train_weight_decay"] < 0.2


def test_micro_batches_add_up_to_the_whole_step():
    whole, cut = Trainer(SMALL, 50), Trainer(replace(SMALL, micro_batch=8), 50)
    images, parts = batch(), []
    for index in range(3):
        own = slice(index, None, 3)
        parts.append(Batch(images.images[own], images.labels[own], images.positions[own], index))
    records = [whole.take_step(5, [images]).record, cut.take_step(5, parts).record]
    assert records[0]["train_loss"] == pytest.approx(records[1]["train_loss"], rel=1e-6)
    assert records[0]["train_class_acc"] == records[1]["train_class_acc"]
    for one, other in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)


def test_gradients_are_clipped_with_and_without_a_scaler():
    for dtype in ("fp32", "fp16"):
        trainer = Trainer(replace(SMALL, dtype=dtype, clip_grad=1e-3), 50)
        trainer.take_step(5, [batch()])
        norm = torch.stack([p.grad.norm() for p in trainer.model.parameters()]).norm()
        assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_the_average_follows_the_weights():
    recipe = replace(SMALL, ema=0.75)
    trainer = Trainer(recipe, 50)
    before = trainer.average.head.weight.clone()
    trainer.take_step(5, [batch()])
    expected = 0.75 * before + 0.25 * trainer.model.head.weight
    assert torch.allclose(trainer.average.head.weight, expected)
    follow(trainer.average, trainer.model, 0.0)
    assert torch.equal(trainer.average.head.weight, trainer.model.head.weight)


def test_dropped_paths_grow_over_depth_and_keep_the_mean():
    kept = draw_kept(0.4, 5, 4000, np.random.default_rng(0))
    assert kept.shape == (5, 2, 4000)
    shares = (kept == 0).float().mean((1, 2)).tolist()
    assert shares == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=0.015)
    assert kept.mean().item() == pytest.approx(1, abs=0.02)
    assert kept[4].max().item() == pytest.approx(1 / 0.6)
    assert draw_kept(0.0, 5, 10, np.random.default_rng(0)) is None


def test_a_block_whose_branches_are_dropped_passes_its_tokens_on(draw, pictures):
    config = Config(image_size=8, patch_size=4, width=16, depth=3, heads=2, classes=5)
    model = draw(config)
    images = pictures(config)
    kept = torch.ones(3, 2, 2)
    assert torch.equal(model(images, 0.5, kept), model(images, 0.5))
    kept[1, :, 0] = 0
    shorter = draw(config)
    del shorter.blocks[1]
    mixed = model(images, 0.5, kept)
    assert torch.allclose(mixed[0], shorter(images, 0.5)[0], atol=1e-6)
    assert torch.allclose(mixed[1], model(images, 0.5)[1], atol=1e-6)


def test_recomputed_blocks_have_the_same_gradients(draw, pictures):
    config = Config(image_size=8, patch_size=4, width=16, depth=2, heads=2, classes=5)
    images, kept = pictures(config), torch.rand(2, 2, 2)
    gradients = []
    for again in (False, True):
        model = draw(config)
        if again:
            model.recompute_blocks()
        model(images, 0.5, kept).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


def test_a_loss_that_is_not_finite_names_its_images_and_changes_nothing():
    trainer = Trainer(replace(SMALL, micro_batch=10), 50)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    batches = [batch(10), batch(10, index=1, value=float("nan"))]
    with pytest.raises(LossError, match=r"recipe demo: loss nan in step 7; lower lr") as error:
        trainer.take_step(7, batches)
    assert error.value.positions == tuple(range(100, 110))
    assert all(torch.equal(before[k], v) for k, v in trainer.model.state_dict().items())


def test_the_seed_alone_decides_the_fresh_weights():
    state = torch.random.get_rng_state()
    one, two, other = build(SMALL), build(SMALL), build(replace(SMALL, seed=1))
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_micro_batch_that_leaves_a_process_idle_is_refused():
    from illama.training.loader import count_passes

    assert [count_passes(SMALL, size) for size in (1, 2, 20)] == [1, 2, 20]
    assert count_passes(replace(SMALL, micro_batch=8), 2) == 3
    with pytest.raises(RecipeError, match="does not fill 2 processes; lower micro_batch"):
        count_passes(replace(SMALL, micro_batch=20), 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile itself
def test_a_compiled_step_is_the_same_step_at_any_soft_mask():
    recipe = replace(SMALL, size="nano", mask_schedule="linear", cutoff_soft=2, drop_path=0.3)
    plain, compiled = Trainer(recipe, 50), Trainer(recipe, 50, compiled=True)
    for step in range(6):
        one, two = (each.take_step(step, [batch()]).record for each in (plain, compiled))
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-4)
