"""Every option that changes a number is part of a run's identity; every other one is listed here.

Nothing is measured: the identities of two command lines that differ in one option are compared.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from illama.checkpoint.save import save_checkpoint
from illama.config import Config
from illama.distributed import World
from illama.model import Model
from illama.sources import open_source
from illama_eval.cli import app
from illama_eval.commands.repeat import UNCHANGING
from illama_eval.run.job import Job, Options

NO_NUMBER = UNCHANGING | {"samples", "latency"}
"""Options that change no number of run.json."""
ELSEWHERE = {
    "checkpoints": "the sha256 of the weights; tests/illama_eval/run/test_directory.py",
    "models": "name and sha256 of the weights; tests/illama_eval/subjects/test_timm.py",
    "weights": "the sha256 of the weights; tests/illama_eval/subjects/test_timm.py",
    "observers": "sha256 of the tables; tests/illama_eval/cli/test_shape_bias.py",
    "mixed": "the quantized weights; tests/illama_eval/commands/test_quantize.py",
    "budget": "the quantized weights; tests/illama_eval/commands/test_quantize.py",
    "predictions": "sha256 of the logits; tests/illama_eval/subjects/test_predictions.py",
}
"""Options that another test changes, or whose content is the identity."""

DIGITS = ("CHECKPOINT", "--data", "digits", "--limit", 8)
MODEL = {
    "data": ((), ("--data", "IMAGES")),
    "split": ((), ("--split", "train")),
    "limit": ((), ("--limit", 9)),
    "seed": ((), ("--seed", 1)),
    "class_subset": ((), ("--class-subset", "subset.txt")),
    "labels": (("--data", "flat", "--labels", "a.csv"), ("--data", "flat", "--labels", "b.csv")),
    "preprocess": ((), ("--preprocess", "paper-calibration")),
    "soft_mask": ((), ("--soft-mask", 0.5)),
    "heads": ((), ("--heads", 1)),
    "masking": ((), ("--masking", "none")),
    "image_size": ((), ("--image-size", 32)),
    "ema": ((), ("--ema",)),
    "key": ((), ("--key", "model_ema")),
    "mean": ((), ("--mean", "0.5,0.5,0.5")),
    "std": ((), ("--std", "0.5,0.5,0.5")),
    "crop": ((), ("--crop", "none")),
    "interpolation": ((), ("--interpolation", "bilinear")),
    "dtype": ((), ("--dtype", "bf16")),
}
"""Options of a command that measures a model: words before and after a change."""
BINS = {
    "bins": ((), ("--bins", 9)),
    "calibration_split": ((), ("--calibration-split", "first-half")),
}
RANK = {"threshold": ((), ("--threshold", 0.9)), "spectra": ((), ("--spectra", "4"))}
STATIC = ("--scheme", "w8a8-static", "--train-limit", 16, "--train-data", "TRAINING")
CALIBRATION = {
    "train_data": (STATIC, (*STATIC, "--train-data", "IMAGES")),
    "train_limit": (STATIC, (*STATIC, "--train-limit", 20)),
    "clipping": (STATIC, (*STATIC, "--clipping", "minmax")),
}
SCHEME = {
    "scheme": ((), ("--bits", 4)),
    "group_size": (("--bits", 4), ("--bits", 4, "--group-size", 8)),
    "asymmetric": ((), ("--asymmetric",)),
    "rounding": (("--bits", 4), ("--bits", 4, "--rounding", "mse")),
    "exclude": ((), ("--exclude", "none")),
    **CALIBRATION,
}
QUANTIZE = {**SCHEME, "sensitivity": ((), ("--sensitivity",))}
EXACT = {name: words for name, words in MODEL.items() if name != "dtype"}
"""A sensitivity map is always of the model in fp32."""
SENSITIVITY = ("quantize", *DIGITS, "--sensitivity")
LINEAR = ("transfer", *DIGITS, "--train-limit", 200)
KNN = (*LINEAR, "--probe", "knn", "--neighbours", "3")
FINETUNE = ("transfer", "--data", "digits", "--limit", 8, "--probe", "finetune")
SHOTS = ("--shots", "1")
SHAPES = ("--data", "demo-shapes")
TRANSFER = {
    "train_data": ((), ("--train-data", "TRAINING")),
    "train_limit": ((), ("--train-limit", 210)),
    "train_labels": (
        ("--data", "flat", "--labels", "a.csv", "--train-data", "more", "--train-labels", "a.csv"),
        ("--data", "flat", "--labels", "a.csv", "--train-data", "more", "--train-labels", "b.csv"),
    ),
    "control": ((), ("--control",)),
}
COMMANDS = {
    "run": (
        ("run", *DIGITS),
        {**MODEL, **BINS, **RANK, "only": (("--only", "rank"), ("--only", "accuracy"))},
    ),
    "accuracy": (("accuracy", *DIGITS), {}),
    "calibrate": (("calibrate", *DIGITS), BINS),
    "rank": (("rank", *DIGITS), RANK),
    "collapse": (
        ("collapse", *DIGITS),
        {
            "control": ((), ("--control",)),
            "without_massive": ((), ("--without-massive",)),
            "background": (SHAPES, (*SHAPES, "--background", "background,star")),
        },
    ),
    "shape-bias": (
        ("shape-bias", "--limit", 8),
        {"categories": ((), ("--categories", "categories.json"))},
    ),
    "quantize": (("quantize", *DIGITS, "--latency", "none"), QUANTIZE),
    "quantize --smooth": (
        ("quantize", *DIGITS, *STATIC),
        {"smooth": ((), ("--smooth", 0.5)), "seed": ((), ("--seed", 1))},
    ),
    "quantize --sweep": (
        ("quantize", *DIGITS, "--train-data", "TRAINING", "--train-limit", 16),
        {"sweep": ((), ("--sweep",))},
    ),
    "quantize --sensitivity": (SENSITIVITY, {**EXACT, **SCHEME}),
    "transfer linear": (
        LINEAR,
        {
            **{
                name: MODEL[name]
                for name in ("soft_mask", "masking", "dtype", "preprocess", "seed")
            },
            **TRANSFER,
            "features": ((), ("--features", "patches")),
            "grid": ((), ("--grid", 4)),
            "shots": ((), SHOTS),
            "draws": (SHOTS, (*SHOTS, "--draws", 2)),
            "probe": ((), ("--probe", "knn", "--neighbours", "3")),
        },
    ),
    "transfer knn": (KNN, {"neighbours": ((), ("--neighbours", "4"))}),
    "transfer finetune": (
        FINETUNE,
        {
            **{name: MODEL[name] for name in ("dtype", "preprocess", "seed")},
            **TRANSFER,
            "preset": ((), ("--preset", "paper")),
            "changes": ((), ("--set", "lr=0.1")),
        },
    ),
}
SLOW = {"quantize --sweep", "quantize --sensitivity", "transfer finetune", "shape-bias"}
KNOWN = {}
"""Identities by the words of their command lines."""
CHANGES = [
    pytest.param(command, option, marks=pytest.mark.slow if command in SLOW else ())
    for command, (_, options) in COMMANDS.items()
    for option in options
]


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_images, training_images):
    """Write a checkpoint with averaged weights, a flat folder with two tables, and lists."""
    root = tmp_path_factory.mktemp("files")
    for folder, shade in (("flat", 0), ("more", 7)):
        (root / folder).mkdir()
        for number in range(20):
            pixels = np.full((16, 16, 3), 12 * number + shade, np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    for name, shift in (("a", 0), ("b", 1)):
        lines = [f"{number}.png,{(number + shift) % 10}" for number in range(20)]
        (root / f"{name}.csv").write_text("\n".join(["file,label", *lines]))
    (root / "subset.txt").write_text("\n".join(map(str, range(10))))
    names = open_source("demo", split="cue-conflict").categories
    table = {name: [number] for number, name in enumerate(reversed(names))}
    (root / "categories.json").write_text(json.dumps(table))
    torch.manual_seed(0)
    model = Model(Config(image_size=64, patch_size=16, width=32, depth=1, heads=2, classes=10))
    save_checkpoint(model, root / "model.pth")
    with torch.serialization.safe_globals([argparse.Namespace]):
        payload = torch.load(root / "model.pth", weights_only=True)
    averaged = {name: value * 0.9 for name, value in payload["model"].items()}
    torch.save({**payload, "model_ema": averaged}, root / "model.pth")
    paths = {"CHECKPOINT": "model.pth", "IMAGES": small_images, "TRAINING": training_images}
    return SimpleNamespace(root=root, paths=paths)


@pytest.fixture
def identity_of(command, files, monkeypatch):
    """Return a function that returns the identity of the run of a command line."""
    monkeypatch.chdir(files.root)
    found = []

    def stop(subjects, source, studies, out, options, precomputed):
        job = Job(tuple(subjects), source, tuple(studies), Options(), World(), precomputed)
        found.append(json.dumps(job.identity, sort_keys=True))
        raise SystemExit(99)

    commands = "illama_eval.commands"
    monkeypatch.setattr(f"{commands}.evaluate.evaluate", stop)
    monkeypatch.setattr(f"{commands}.quantize.find_effects", lambda *_: [])
    monkeypatch.setattr(f"{commands}.transfer._fit", lambda shared, options, request, *_: request)
    epochs = [{"test_acc1_at_0": 1.0}]
    monkeypatch.setattr(f"{commands}.finetune.train", lambda *_, **__: epochs)

    def trained(shared, base, *_):
        return [replace(base, dtype=shared.dtype)]

    monkeypatch.setattr(f"{commands}.finetune._open_trained", trained)

    def run(*words):
        if words not in KNOWN:
            code, _, said = command(*(files.paths.get(word, word) for word in words))
            assert code == 99, said
            KNOWN[words] = found[-1]
        return KNOWN[words]

    return run


@pytest.mark.parametrize(("name", "option"), CHANGES)
def test_an_option_that_changes_a_number_changes_the_identity(identity_of, name, option):
    given, options = COMMANDS[name]
    before, after = options[option]
    assert identity_of(*given, *before) != identity_of(*given, *after)


def test_every_option_is_changed_or_changes_no_number():
    changed = {}
    for words, options in COMMANDS.values():
        changed.setdefault(words[0], set()).update(options)
    known = set(MODEL) | set(ELSEWHERE) | NO_NUMBER
    listed = typer.main.get_command(app).commands
    for name, options in changed.items():
        own = {parameter.name for parameter in listed[name].params} - {"help", "help_all"}
        assert own - options - known == set(), name
