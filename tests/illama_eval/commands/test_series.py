"""One model over a range: values, subjects, what is refused, and the figure and header of it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
import torch

from illama.checkpoint.save import save_checkpoint
from illama.config import Config
from illama.exits import InputError, UsageError
from illama.model import Model
from illama_eval.commands.options import SharedOptions
from illama_eval.commands.series import parse_values, run_sweep, run_trajectory
from illama_eval.render.figures.series import draw_series
from illama_eval.render.models import load_models
from illama_eval.results import Run

SMALL = Config(image_size=32, patch_size=8, width=12, depth=2, heads=2, classes=10)


@pytest.fixture
def epochs(tmp_path):
    """Write the checkpoints of three epochs, the soft mask falling to 0; return their folder."""
    for epoch, soft in ((0, 1.0), (4, 0.5), (9, 0.0)):
        torch.manual_seed(epoch)
        path = tmp_path / "kept" / f"epoch-{epoch + 1:04d}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_checkpoint(Model(SMALL), path, soft_mask=soft, epoch=epoch)
    return tmp_path / "kept"


def test_ranges_take_in_both_ends_and_lists_keep_their_order():
    assert parse_values("0:1:0.25") == (0, 0.25, 0.5, 0.75, 1)
    assert parse_values("0:1:0.1")[3] == 0.3  # no 0.30000000000000004
    assert parse_values("1,0,0.5,1") == (1, 0, 0.5)
    assert parse_values("32:64:16", whole=True) == (32, 48, 64)


@pytest.mark.parametrize(
    "given", ["", "a", "0:1", "0:1:0", "0:1:-1", "0:1:2:3", "1:0:0.5", "nan", "0:inf:1"]
)
def test_what_is_no_range_is_refused(given):
    with pytest.raises(UsageError, match="START:STOP:STEP"):
        parse_values(given)
    with pytest.raises(UsageError, match="whole numbers"):
        parse_values("32.5", whole=True)


def test_no_size_is_not_the_checkpoints_own(command, epochs):
    path = epochs / "epoch-0010.safetensors"
    code, _, err = command("sweep", path, "--image-size", "0", "--data", "demo", "--limit", "4")
    assert code == 3
    assert "image_size=0 must be a positive whole number" in err


def test_more_values_than_fit_are_refused_before_they_are_made():
    with pytest.raises(UsageError, match=r"64 values at most, not 100000000[01]"):
        parse_values("0:1:1e-9")


def test_a_sweep_measures_each_value_beside_the_checkpoints_own(
    command, without_figures, epochs, tmp_path
):
    path = epochs / "epoch-0010.safetensors"
    given = ("--soft-mask", "0.5,1", "--data", "demo", "--limit", "40", "--out", "out")
    code, _, err = command("sweep", path, *given)
    assert code == 0, err
    run = Run.load(tmp_path / "out")
    variable = run.header["variable"]
    assert variable["name"] == "soft_mask"
    assert variable["reference"] == "epoch-0010"
    assert list(variable["values"].values()) == [0, 0.5, 1]
    masks = [each["soft_mask"] for each in run.header["subjects"]]
    assert masks == [0, 0.5, 1]
    (changed,) = [
        row for row in run.rows if (row.metric, row.subject) == ("flips", "epoch-0010 at 1")
    ]
    assert 0 <= changed.value <= 1
    caption = (tmp_path / "out" / "figures" / "series.txt").read_text("utf-8")
    assert "paired difference" in caption


def test_a_trajectory_is_in_the_order_of_epochs_each_with_its_own_soft_mask(
    command, without_figures, epochs, tmp_path
):
    code, _, err = command("trajectory", epochs, "--data", "demo", "--limit", "40", "--out", "out")
    assert code == 0, err
    run = Run.load(tmp_path / "out")
    assert run.header["variable"]["values"] == {"epoch 1": 1.0, "epoch 5": 5.0, "epoch 10": 10.0}
    assert [each["soft_mask"] for each in run.header["subjects"]] == [1.0, 0.5, 0.0]
    caption = (tmp_path / "out" / "figures" / "series.txt").read_text("utf-8")
    assert "soft mask that each epoch" in caption
    (drawing,) = draw_series(load_models([tmp_path / "out"]))
    titled = {axes.get_title(loc="left") or axes.get_title(): axes for axes in drawing.figure.axes}
    controls = {text.get_text() for text in titled["rank of mean map"].texts}
    assert controls == {"softmax, all keys", "softmax, masked"}
    assert "changed answers since the first (%)" in titled
    plt.close(drawing.figure)


def test_what_is_no_trajectory_is_refused(epochs, tmp_path):
    with pytest.raises(InputError, match="needs two checkpoints, not 0"):
        run_trajectory(SharedOptions(checkpoints=[tmp_path]))
    known = epochs / "epoch-0001.safetensors"
    save_checkpoint(Model(SMALL), tmp_path / "twin.safetensors", epoch=0)
    with pytest.raises(InputError, match="both are of epoch 1; name one"):
        run_trajectory(SharedOptions(checkpoints=[known, tmp_path / "twin.safetensors"]))
    save_checkpoint(Model(SMALL), tmp_path / "unknown.safetensors")
    with pytest.raises(InputError, match="does not say of which epoch"):
        run_trajectory(SharedOptions(checkpoints=[known, tmp_path / "unknown.safetensors"]))
    wider = Config(image_size=32, patch_size=8, width=24, depth=2, heads=2, classes=10)
    save_checkpoint(Model(wider), tmp_path / "wider.safetensors", epoch=3)
    with pytest.raises(InputError, match="another architecture"):
        run_trajectory(SharedOptions(checkpoints=[known, tmp_path / "wider.safetensors"]))


def test_what_cannot_be_swept_is_refused(epochs, tmp_path):
    path = epochs / "epoch-0010.safetensors"
    with pytest.raises(UsageError, match="one checkpoint"):
        run_sweep(SharedOptions(checkpoints=[path, path]), "soft_mask", [0.5])
    with pytest.raises(UsageError, match="between 0 and 1"):
        run_sweep(SharedOptions(checkpoints=[path]), "soft_mask", [2.0])
    strict = Config(
        image_size=32, patch_size=8, width=12, depth=2, heads=2, classes=10, masking="additive"
    )
    save_checkpoint(Model(strict), tmp_path / "strict.safetensors")
    with pytest.raises(InputError, match="only the multiplicative mask"):
        run_sweep(SharedOptions(checkpoints=[tmp_path / "strict.safetensors"]), "soft_mask", [0.5])
