from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from illama.training.progress import TensorBoardLog, describe, live
from illama.training.task import TrainingError

RECORD = {
    "epoch": 1,
    "train_loss": 1.23456,
    "test_acc1": 71.5,
    "test_acc1_at_0": 70.25,
    "test_soft_mask_rate": 0.5,
}


def test_an_epoch_is_one_line_counted_from_one():
    assert describe(RECORD, 4) == (
        "epoch 2/4: loss 1.235, test top-1 71.50 % at soft mask 0.50, 70.25 % at 0"
    )


def test_what_there_is_besides_is_said():
    line = describe({**RECORD, "test_miou": 12.345, "broken_images": 3}, 4)
    assert "test mIoU 12.35 %, test top-1" in line
    assert line.endswith(", 3 images broken")


def test_the_live_line_is_for_terminals():
    shown = [
        live(Console(file=io.StringIO(), force_terminal=terminal), 10) for terminal in (True, False)
    ]
    assert [line.disable for line in shown] == [False, True]
    assert shown[0].tasks[0].total == 10


def test_tensorboard_is_asked_for_only_where_it_is_on(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    TensorBoardLog(tmp_path, [RECORD], on=False).write(RECORD)
    with pytest.raises(TrainingError, match="pip install tensorboard"):
        TensorBoardLog(tmp_path, [], on=True)
