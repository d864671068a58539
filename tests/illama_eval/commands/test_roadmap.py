"""The road from ViT to iLLaMA as an experiment: its plan, its runs, its table and figure."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from illama.config import SIZES, STEPS
from illama.sources import open_source
from illama.training.recipe import RecipeError, find_recipe
from illama_eval.cli import main
from illama_eval.commands.roadmap import (
    ARMS,
    QUESTIONS,
    Roadmap,
    choose_arms,
    further_command,
    shared_recipe,
)
from illama_eval.render.roadmap import answers
from illama_eval.render.roadmap_runs import read_runs
from illama_eval.results import Run

OPTIONS = (
    *("--size", "micro", "--epochs", "2", "--images", "32"),
    *("--set", "batch_size=16", "--set", "image_size=8"),
    *("--step", "class-first-causal", "--step", "post-sequence-class"),
)


@pytest.fixture(scope="module", autouse=True)
def micro():
    """Let a road be of a size that trains in no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "micro", {"width": 8, "depth": 2, "heads": 2, "patch_size": 4})
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two classes of noise, one dark and one bright, in folders with a train and a test split."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for split, each in (("train", 24), ("test", 10)):
        for name, light in (("dark", 60), ("bright", 190)):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(each):
                pixels = random.integers(light - 50, light + 50, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


def travel(monkeypatch, out, *options):
    monkeypatch.setattr("sys.argv", ["illama-eval", "roadmap", "--out", str(out), *options])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code or 0


@pytest.fixture(scope="module")
def road(tmp_path_factory, pictures, sketch):
    """A finished roadmap of two steps, one of them with two seeds."""
    out = tmp_path_factory.mktemp("road")
    with pytest.MonkeyPatch.context() as patch:
        sketch(patch)
        options = ("--data", str(pictures), *OPTIONS)
        assert travel(patch, out, *options) == 0
        more = [*options[: options.index("--step")], "--step", "post-sequence-class"]
        assert travel(patch, out, *more, "--seeds", "2") == 0
    return out


@pytest.fixture
def planned(tmp_path, pictures):
    train, test = (open_source(str(pictures), split=split) for split in ("train", "test"))
    recipe = shared_recipe("cifar10-nano", "nano", train, 8, ())
    return Roadmap(recipe=recipe, train=train, test=test, out=tmp_path, device=torch.device("cpu"))


def test_every_step_of_the_road_is_an_arm_and_in_its_order():
    assert list(dict.fromkeys(arm.step for arm in ARMS.values())) == [
        "vit",
        "swiglu",
        "rmsnorm",
        "class-first-causal",
        "modified-mask",
        "post-sequence-class",
        "rope-only",
        "rope-and-learned",
        "soft-mask",
        "class-first-multiplicative",
    ]
    assert {arm.step for arm in ARMS.values()} == set(STEPS)
    assert all({before, after} <= set(ARMS) for before, after, _ in QUESTIONS)


def test_arms_differ_in_step_seed_and_soft_mask_alone(planned):
    plain = asdict(planned.recipe)
    for name in ARMS:
        changed = asdict(planned.recipe_of(name, 3))
        differing = {key for key in plain if changed[key] != plain[key]}
        assert differing <= {"name", "summary", "step", "seed", "soft_mask"}
        assert changed["seed"] == 3


def test_only_the_soft_arm_has_a_soft_mask(planned):
    soft = [name for name in ARMS if planned.recipe_of(name, 0).soft_mask]
    assert soft == ["soft-mask"]
    form, schedule = (planned.recipe_of(name, 0) for name in ("multiplicative-mask", "soft-mask"))
    assert form.step == schedule.step


def test_a_shorter_recipe_keeps_the_shares_of_warm_up_and_soft_phase(pictures):
    source = open_source(str(pictures), split="train")
    recipe = shared_recipe("cifar10-nano", "nano", source, 12, ("lr=0.5",))
    whole = find_recipe("cifar10-nano")
    assert (recipe.epochs, recipe.lr) == (12, 0.5)
    assert recipe.cutoff_soft == round(12 * whole.cutoff_soft / whole.epochs)
    assert shared_recipe("cifar10-nano", "nano", source, 2, ()).cutoff_soft == 1


def test_what_cannot_be_planned_is_refused(pictures):
    source = open_source(str(pictures), split="train")
    with pytest.raises(RecipeError, match="2 or more"):
        shared_recipe("cifar10-nano", "nano", source, 1, ())
    with pytest.raises(RecipeError, match="no step 'vti'; there are vit,"):
        choose_arms(["vti"])


@pytest.mark.parametrize(
    ("change", "decided"),
    [
        ("start=other.pth", "the road"),
        ("classes=3", "the images"),
        ("data=digits", "--data"),
        ("task=segmentation", "the road"),
        ("step=vit", "--step"),
        ("seed=3", "--seeds"),
        ("size=tiny", "--size"),
        ("epochs=3", "--epochs"),
    ],
)
def test_what_the_road_decides_is_not_set(pictures, change, decided):
    source = open_source(str(pictures), split="train")
    with pytest.raises(RecipeError, match=f"follows from {decided}"):
        shared_recipe("cifar10-nano", "nano", source, 8, (change,))


def test_each_run_is_named_by_step_and_seed_and_keeps_its_log(road):
    names = sorted(path.name for path in (road / "runs").iterdir())
    assert names == [
        "class-first-causal-seed0",
        "post-sequence-class-seed0",
        "post-sequence-class-seed1",
    ]
    for name in names:
        run = Run.load(road / "runs" / name)
        assert {row.subject for row in run.rows} == {name}
        words = run.header["command"]
        assert words[:3] == ["illama-eval", "roadmap", "--data"]
        assert words[words.index("--images") + 1] == "32"
        assert not {"--out", "--device"} & set(words)
        assert len((road / "runs" / name / "log.jsonl").read_text("utf-8").splitlines()) == 2
        assert not (road / "runs" / name / "samples.npz").exists()


def test_the_class_token_in_front_is_isolated_and_behind_it_attends(road):
    verdicts = {(run.arm, run.verdict) for run in read_runs(road).runs}
    assert verdicts == {("class-first-causal", "isolated"), ("post-sequence-class", "attends")}


def test_the_table_holds_what_the_runs_measured(road):
    with (road / "roadmap.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line["step"], line["seed"]) for line in lines] == [
        ("class-first-causal", "0"),
        ("post-sequence-class", "0"),
        ("post-sequence-class", "1"),
    ]
    run = Run.load(road / "runs" / "post-sequence-class-seed1")
    assert float(lines[2]["top1"]) == run.value("accuracy", "top1").value
    control = run.value("rank", "rank_of_mean_map", map="softmax").value
    assert float(lines[2]["rank_softmax"]) == control
    log = (road / "runs" / "post-sequence-class-seed1" / "log.jsonl").read_text("utf-8")
    assert float(lines[2]["train_loss"]) == json.loads(log.splitlines()[-1])["train_loss"]


def test_a_question_is_answered_with_its_interval(road):
    (found,) = answers(read_runs(road))
    assert found[0] == "Does moving the class token cure collapse?"
    assert "post-sequence-class" in found[1]
    assert "95 % interval over 1 and 2 seeds: " in found[1]


def test_going_again_trains_nothing_anew(road, pictures, sketched, monkeypatch, capsys):
    weights = sorted((road / "training").glob("*/*.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    assert travel(monkeypatch, road, "--data", str(pictures), *OPTIONS) == 0
    assert [path.stat().st_mtime_ns for path in weights] == before
    printed = capsys.readouterr()
    assert "Does moving the class token cure collapse?" in printed.out
    assert printed.err.splitlines()[-1] == (
        f"more of these models: illama-eval run {road}/training/"
        "{class-first-causal,post-sequence-class}-seed*/*.safetensors "
        f"--data {pictures} --only causality,anytime,lens,distance"
    )


def test_one_step_or_a_folder_with_a_blank_is_named_as_a_shell_takes_it():
    assert further_command(Path("my road"), "cifar10", ["vit"]).startswith(
        "illama-eval run 'my road/training'/vit-seed*/*.safetensors --data cifar10 "
    )


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("--set", "lr=0.5"), "recipe.lr (0.002, not 0.5)"),
        (("--images", "16"), "train.images (32, not 16)"),
    ],
)
def test_runs_of_another_plan_are_refused(road, pictures, monkeypatch, capsys, more, named):
    assert travel(monkeypatch, road, "--data", str(pictures), *OPTIONS, *more) == 3
    assert named in capsys.readouterr().err
