"""`illama inspect` shows what a checkpoint is and how it runs, in words and as JSON."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from illama import inspection
from illama.checkpoint import released
from illama.checkpoint.load import read_checkpoint

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "official_micro.pth"


def test_inspect_says_what_a_file_is_and_how_it_runs(illama):
    code, out, _ = illama("inspect", GOLDEN)
    words = " ".join(out.split())
    assert code == 0
    assert "official .pth" in words
    assert "masking multiplicative, soft mask 0" in words
    assert "not published" in words
    assert "taken as the released form" in words


def test_inspect_prints_json(illama, checkpoint):
    code, out, _ = illama("inspect", checkpoint, "--json")
    seen = json.loads(out)
    assert code == 0
    assert seen["config"] == read_checkpoint(checkpoint).model.config.to_dict()
    assert seen["file_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert seen["sha256"] == read_checkpoint(checkpoint).sha256
    assert (seen["soft_mask"], seen["epoch"], seen["args"]) == (0.5, 3, {"lr": 0.1})
    assert seen["parameters"] > seen["parameters_as_published"] > 0
    assert seen["macs"] > seen["causal_macs"] > 0


def test_inspect_names_a_published_file_with_its_accuracy(illama, checkpoint, monkeypatch):
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    known = released.Released(name="known-75.0", sha256=sha256, megabytes=1, top1=0.75)
    monkeypatch.setattr(released, "RELEASED", (known,))
    monkeypatch.setattr(inspection, "RELEASED", (known,))
    _, out, _ = illama("inspect", checkpoint)
    assert "known-75.0, top-1 75.0%" in " ".join(out.split())


def test_a_hostile_file_name_cannot_steer_the_terminal(illama, checkpoint):
    name = checkpoint.with_name("\x1b]0;title\x07[red]\nx.pth")
    checkpoint.rename(name)
    code, out, _ = illama("inspect", name)
    assert code == 0
    assert "\x1b" not in out
    assert "[red]" in out
    _, _, err = illama("inspect", name.with_suffix(".gone"))
    assert "\x1b" not in err
    assert err.count("\n") == 1
