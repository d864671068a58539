from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from illama import checkpoint, cli, exits
from illama.batches import draw_batches, open_splits, shift
from illama.config import Config
from illama.data import evaluation_transform
from illama.demo import draw
from illama.model import Model
from illama.recipe import RECIPES, find_recipe
from illama.sources import SourceError
from illama.sources.source import hash_arrays, make_source
from illama.train import Training, TrainingError, build, evaluate, fit, parameter_groups

SMALL = find_recipe("demo").override(
    ["image_size=8", "epochs=3", "batch_size=20", "cutoff_soft=1", "dtype=fp32", "lr=2e-3"]
)
"""The demo's recipe on pictures of five tokens: the same code, a hundredth of the time."""


def small_source(split="train", images=50, **changes):
    drawn = draw(split, images)
    given = {
        "name": "small",
        "split": split,
        "names": [f"{split}/{i}" for i in range(images)],
        "labels": drawn.labels,
        "contents": hash_arrays(drawn.images),
        "read": drawn.images.__getitem__,
        "in_memory": True,
    }
    return make_source(**{**given, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "small"
    said = StringIO()
    result = fit(SMALL, small_source(), small_source("test", 30), out, console=Console(file=said))
    return SimpleNamespace(out=out, said=said.getvalue(), **vars(result))


def test_the_loss_falls_on_a_few_images():
    training = Training(SMALL, 1000, torch.device("cpu"))
    images, labels = next(draw_batches(small_source(), training.transform, SMALL, 0))
    losses = [training.take_step(100 + k, images, labels)["train_loss"] for k in range(25)]
    assert losses[0] == pytest.approx(math.log(10), abs=0.3)
    assert losses[-1] < 0.7 * losses[0]


def test_bf16_products_leave_the_weights_in_fp32():
    training = Training(replace(SMALL, dtype="bf16"), 1000, torch.device("cpu"))
    images, labels = next(draw_batches(small_source(), training.transform, SMALL, 0))
    losses = [training.take_step(100 + k, images, labels)["train_loss"] for k in range(5)]
    assert losses[-1] < losses[0]
    assert {p.dtype for p in training.model.parameters()} == {torch.float32}


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


def test_every_optimizer_step_gets_its_own_rate_and_soft_mask(monkeypatch):
    recipe = replace(SMALL, mask_schedule="linear", cutoff_soft=2, soft_mask=0.9)
    training = Training(recipe, 50, torch.device("cpu"))
    seen = []
    forward = training.model.forward
    monkeypatch.setattr(
        training.model,
        "forward",
        lambda images, soft_mask: seen.append(soft_mask) or forward(images, soft_mask),
    )
    images, labels = next(draw_batches(small_source(), training.transform, recipe, 0))
    taken = [training.take_step(step, images, labels) for step in range(6)]
    assert seen == pytest.approx([0.9, 0.6, 0.3, 0.0, 0.0, 0.0])
    assert [each["train_soft_mask_rate"] for each in taken] == seen
    rates = [each["train_lr"] for each in taken]
    assert rates[:3] == [0, 2e-3, 2e-3]
    assert training.optimizer.param_groups[0]["lr"] == rates[-1]


def test_the_log_has_the_names_of_the_released_logs(trained):
    lines = [json.loads(line) for line in (trained.out / "log.jsonl").read_text().splitlines()]
    assert lines == list(trained.log)
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert [line["train_soft_mask_rate"] for line in lines] == [1, 0, 0]
    released = {"train_lr", "train_loss", "test_loss", "test_acc1", "test_acc5", "n_parameters"}
    assert released < set(lines[0])
    assert lines[0]["n_parameters"] == sum(p.numel() for p in trained.model.parameters())
    assert lines[0]["test_soft_mask_rate"] == 1
    assert lines[0]["test_loss"] != lines[0]["test_loss_at_0"]
    assert lines[2]["test_acc1"] == lines[2]["test_acc1_at_0"]
    assert trained.said.count("\n") == 3


def test_what_was_trained_is_what_is_loaded(trained):
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = trained.model(images)
    for suffix in (".safetensors", ".pth"):
        read = checkpoint.read(trained.out / f"small{suffix}")
        assert torch.equal(read.model(images), wanted)
        assert (read.soft_mask, read.epoch, read.args["lr"]) == (0, 2, 2e-3)
    assert trained.checkpoint == trained.out / "small.safetensors"
    assert json.loads((trained.out / "recipe.json").read_text()) == SMALL.to_dict()


def test_equal_recipes_give_equal_weights_and_logs(trained, tmp_path):
    torch.manual_seed(123)
    again = fit(SMALL, small_source(), small_source("test", 30), tmp_path / "small")
    assert again.checkpoint.read_bytes() == trained.checkpoint.read_bytes()
    assert again.log == trained.log


def test_a_training_that_ends_soft_is_saved_to_run_soft(tmp_path):
    recipe = replace(SMALL, epochs=1, cutoff_soft=1, soft_mask=0.25)
    result = fit(recipe, small_source(), small_source("test", 10), tmp_path / "soft")
    assert checkpoint.read(result.checkpoint).soft_mask == 0.25


def test_the_seed_alone_decides_the_fresh_weights():
    state = torch.random.get_rng_state()
    one, two, other = build(SMALL), build(SMALL), build(replace(SMALL, seed=1))
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_epoch_meets_every_image_once_in_an_order_of_its_own():
    source = small_source(labels=np.arange(50))
    transform = evaluation_transform(8)
    orders = [
        torch.cat([labels for _, labels in draw_batches(source, transform, recipe, epoch)]).tolist()
        for recipe, epoch in [(SMALL, 0), (SMALL, 1), (replace(SMALL, seed=1), 0), (SMALL, 0)]
    ]
    assert all(len(order) == len(set(order)) == 40 for order in orders)
    assert orders[0] == orders[3]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_shifted_images_keep_their_pixels_and_gain_zeros():
    images = torch.arange(1.0, 1 + 6 * 3 * 4 * 4).view(6, 3, 4, 4)
    random = np.random.Generator(np.random.PCG64(0))
    shifted = shift(images, 1, random)
    assert shifted.shape == images.shape
    assert torch.equal(shift(images, 0, random), images)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    for image, around in zip(shifted, padded, strict=True):
        crops = [around[:, y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
        assert any(torch.equal(image, crop) for crop in crops)
    assert not torch.equal(shifted, images)


def test_evaluation_counts_ranks_and_averages_over_all_images():
    labels = np.array([0, 1, 9, 2])
    logits = torch.zeros(4, 10)
    logits[0, 0] = 5
    logits[1, [3, 4]] = 5
    logits[2, :6] = 5
    logits[3, 2] = 1
    batches = iter([logits[:2], logits[2:]])
    source = small_source(images=4, labels=labels)

    class Told:
        class_token = torch.zeros(1)

        def __call__(self, images, soft_mask):
            assert (images.shape[1:], soft_mask) == ((3, 8, 8), 0.5)
            return next(batches)

    seen = evaluate(Told(), source, evaluation_transform(8), 0.5, 2)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()
    assert seen["test_loss"] == pytest.approx(loss)
    assert (seen["test_acc1"], seen["test_acc5"]) == (50, 75)


def test_a_loss_that_is_not_finite_stops_the_training():
    training = Training(SMALL, 50, torch.device("cpu"))
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    images = torch.full((20, 3, 8, 8), float("nan"))
    with pytest.raises(TrainingError, match=r"recipe demo: loss nan in step 7; lower lr"):
        training.take_step(7, images, torch.zeros(20, dtype=torch.int64))
    assert all(torch.equal(before[k], v) for k, v in training.model.state_dict().items())


def test_what_cannot_be_trained_on_is_refused_before_anything_is_written(tmp_path):
    test = small_source("test", 30)
    with pytest.raises(TrainingError, match="12 training images do not fill a batch of 20"):
        fit(SMALL, small_source(images=12), test, tmp_path / "out")
    with pytest.raises(TrainingError, match="small has no labels"):
        fit(SMALL, small_source(labels=None), test, tmp_path / "out")
    with pytest.raises(SourceError, match="outside the head of 10 classes"):
        fit(SMALL, small_source(labels=np.full(50, 12)), test, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_trained_weights_are_not_overwritten(trained):
    before = trained.checkpoint.read_bytes()
    with pytest.raises(TrainingError, match="is trained already; choose another --out"):
        fit(SMALL, small_source(), small_source("test", 30), trained.out)
    assert trained.checkpoint.read_bytes() == before


def test_a_source_without_splits_cannot_test_what_it_trained(tmp_path):
    drawn = draw("test", 10)
    np.savez(tmp_path / "images.npz", images=drawn.images, labels=drawn.labels)
    with pytest.raises(SourceError, match="has no images for testing; give one with train"):
        open_splits(replace(SMALL, data=str(tmp_path / "images.npz")))
    with pytest.raises(SourceError, match="brings no images of its own; name them by --data"):
        open_splits(replace(SMALL, data=None))


# The command


@pytest.fixture
def illama(capsys):
    """Return a function that runs the command and returns exit code, stdout and stderr."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            exits.run(cli.app, "illama", [str(word) for word in words])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def folders(tmp_path):
    """Write a folder of train and test images, 8 x 8, in three classes."""
    for split, images in (("train", 12), ("test", 6)):
        drawn = draw(split, images)
        for number, image in enumerate(drawn.images[:, ::4, ::4]):
            folder = tmp_path / "images" / split / f"class{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path / "images"


def test_the_command_trains_and_prints_where_the_weights_are(illama, folders, tmp_path):
    out = tmp_path / "first"
    fields = ("image_size=8", "classes=3", "epochs=1", "cutoff_soft=0", "batch_size=5")
    sets = [word for field in fields for word in ("--set", field)]
    code, printed, said = illama("train", "demo", "--data", folders, "--out", out, *sets)
    assert (code, printed) == (0, f"{out / 'first.safetensors'}\n")
    assert "epoch 1/1: loss " in said
    assert checkpoint.read(out / "first.pth").args["data"] == str(folders)
    assert json.loads((out / "recipe.json").read_text())["batch_size"] == 5
    code, _, said = illama("train", "demo", "--data", folders, "--out", out, *sets)
    assert (code, said.count("\n")) == (3, 1)
    assert "is trained already" in said


def test_the_recipes_are_listed_one_a_line(illama):
    code, printed, _ = illama("train", "--list")
    assert code == 0
    assert [line.split()[0] for line in printed.splitlines()] == list(RECIPES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--list"),
        (["demi"], "no recipe 'demi'"),
        (["demo", "--set", "rate=1"], "no field 'rate'"),
        (["demo", "--set", "lr=fast"], "lr='fast' is no number"),
    ],
)
def test_an_unusable_command_line_ends_with_2_and_one_line(illama, tmp_path, words, said):
    code, printed, error = illama("train", *words, "--out", tmp_path / "out")
    assert (code, printed, error.count("\n")) == (2, "", 1)
    assert said in error


def test_missing_images_end_with_3(illama, tmp_path):
    code, _, error = illama("train", "demo", "--data", tmp_path / "none", "--out", tmp_path / "out")
    assert (code, error.count("\n")) == (3, 1)
    assert "does not exist" in error
