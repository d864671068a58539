from __future__ import annotations

import json

import pytest

from illama_eval.results import Run


def test_all_weights_are_trained_and_a_finished_training_is_kept(command, undrawn, tmp_path):
    words = (
        "transfer",
        "--data",
        "digits",
        "--train-limit",
        64,
        "--limit",
        20,
        "--out",
        "run",
        "--probe",
        "finetune",
        "--set",
        "epochs=2",
        "--set",
        "warmup_epochs=0",
    )
    code, _, err = command(*words, "--no-samples")
    assert code == 0, err
    run = Run.load(tmp_path / "run")
    trained = tmp_path / "run" / "illama_demo_nano-finetune"
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    scores = [record["test_acc1_at_0"] for record in log]
    names = {row.subject for row in run.rows}
    better = {"illama_demo_nano+finetune-best"} if scores[0] > scores[1] else set()
    expected = {"illama_demo_nano+finetune"} | better
    assert names == expected
    text = (tmp_path / "run" / "run.json").read_text("utf-8")
    assert str(tmp_path) not in text
    assert "run/illama_demo_nano-finetune/start" not in text
    file = trained / "illama_demo_nano-finetune.safetensors"
    before = file.stat().st_mtime_ns
    assert command(*words)[0] == 0
    assert file.stat().st_mtime_ns == before
    last = run.value("accuracy", "top1", "illama_demo_nano+finetune")
    assert last.value == pytest.approx(scores[-1] / 100)
    code, _, err = command(*words, "--set", "lr=1e-4")
    assert (code, "with another lr" in err) == (3, True)
    code, _, err = command(*words, "--train-limit", 70)
    assert (code, "with another training images" in err) == (3, True)
