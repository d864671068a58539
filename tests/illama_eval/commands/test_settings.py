"""Which options reach which checkpoint, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from illama.checkpoint.save import save_checkpoint
from illama.checkpoint.segmenter import save_segmenter
from illama.config import Config
from illama.model import Model
from illama.transforms import evaluation_transform
from illama_eval.commands.options import SharedOptions
from illama_eval.commands.settings import open_segmenters, remarks_on
from illama_eval.results import Run

SMALL = Config(image_size=64, patch_size=16, width=12, heads=2, depth=1, classes=10)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    """Return a causal and a bidirectional checkpoint of ours."""
    folder = tmp_path_factory.mktemp("pair")
    paths = folder / "causal.safetensors", folder / "bidirectional.safetensors"
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        transform = evaluation_transform(64)
        save_checkpoint(Model(SMALL), path, soft_mask=float(seed), transform=transform)
    return paths


@pytest.fixture
def accuracy(command, small_images):
    """Return a function that runs accuracy on few images."""
    common = ("--data", small_images, "--limit", 8, "--out", "here", "--no-samples")
    return lambda *words: command("accuracy", *words, *common)


@pytest.mark.usefixtures("undrawn")
def test_a_setting_reaches_one_checkpoint_alone(accuracy, pair, tmp_path):
    causal, other = pair
    code, _, err = accuracy(causal, f"{other}:soft_mask=0.5,mean=0.5")
    assert code == 0, err
    first, second = Run.load(tmp_path / "here").header["subjects"]
    assert (first["soft_mask"], second["soft_mask"]) == (0, 0.5)
    assert first["transform"]["mean"] != second["transform"]["mean"] == [0.5, 0.5, 0.5]
    assert first["overrides"] == first["assumptions"] == []
    assert [each["what"] for each in second["overrides"]] == ["soft_mask", "mean"]
    words = " ".join(err.split())
    assert "bidirectional: changed: soft mask 0.5 by option, not its own 1" in words
    assert "causal: changed" not in words


@pytest.mark.usefixtures("undrawn")
def test_one_file_twice_is_two_models_named_by_their_settings(accuracy, pair, tmp_path):
    causal, _ = pair
    code, _, err = accuracy(causal, f"{causal}:masking=additive", f"{causal}:masking=additive")
    assert code == 0, err
    run = Run.load(tmp_path / "here")
    names = [row.subject for row in run.rows if row.metric == "top1"]
    digest = run.header["subjects"][0]["file_sha256"][:8]
    again = f"causal masking=additive-{digest}"
    assert names == ["causal", again, f"{again} (2)"]


def test_an_option_that_fits_one_checkpoint_and_would_change_another_is_refused(accuracy, pair):
    causal, other = pair
    code, _, err = accuracy(causal, other, "--soft-mask", 1)
    assert code == 2
    assert "--soft-mask 1 fits bidirectional.safetensors and would change causal" in err
    assert f"{other}:soft_mask=1" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.usefixtures("without_figures")
def test_an_option_that_overrides_a_file_and_what_is_assumed_are_said_everywhere(
    accuracy, golden_checkpoint, tmp_path
):
    code, _, err = accuracy(golden_checkpoint, "--soft-mask", 1, "--crop", "none")
    assert code == 0, err
    (subject,) = Run.load(tmp_path / "here").header["subjects"]
    heads = next(each for each in subject["assumptions"] if each["what"] == "heads")
    assert heads["text"] == "3 heads, by width 96; --heads changes it"
    assert subject["transform"]["crop"] is None
    page = (tmp_path / "here" / "report.md").read_text("utf-8")
    for words in (heads["text"], "soft mask 1 by option, not its own 0"):
        assert words in " ".join(err.split())
        assert words in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--crop", "0.9", "--preprocess", "paper-calibration"], "has its own"),
        (["--mean", "128"], "divide by 255"),
        (["--heads", 5], "12"),
    ],
)
def test_options_that_cannot_be_are_one_line(accuracy, pair, words, said):
    code, _, err = accuracy(pair[0], *words)
    assert code in {2, 3}
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_segment_refuses_what_a_segmenter_does_not_take(command):
    code, _, err = command("segment", "--heads", 3)
    assert code == 2
    assert "--heads changes nothing beside a segmenter" in err


def test_a_soft_mask_reaches_no_segmenter_that_has_another(command, segmenter_subject, tmp_path):
    paths = [tmp_path / f"{name}.safetensors" for name in ("causal", "open")]
    for path, soft_mask in zip(paths, (0.0, 1.0), strict=True):
        save_segmenter(segmenter_subject.segmenter, path, soft_mask=soft_mask)
    code, _, err = command("segment", *paths, "--soft-mask", 1, "--data", "demo-shapes")
    assert code == 2
    assert "--soft-mask 1 fits open.safetensors and would change causal.safetensors" in err
    (subject,) = open_segmenters(
        SharedOptions(checkpoints=[Path(f"{paths[0]}:soft_mask=0.5")]), paths[1]
    )
    assert remarks_on([subject]) == ["causal: changed: soft mask 0.5 by option, not its own 0"]


def test_what_is_true_of_several_models_is_said_once():
    def subject(name, *texts):
        described = {"assumptions": [{"text": text} for text in texts]}
        return SimpleNamespace(name=name, describe=lambda: described)

    assert remarks_on([subject("a", "six heads"), subject("b", "six heads", "no crop")]) == [
        "a, b: assumed: six heads",
        "b: assumed: no crop",
    ]
    many = [subject(f"epoch {number}", "six heads") for number in range(12)]
    assert remarks_on(many) == ["epoch 0 and 11 more: assumed: six heads"]
