from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from illama_eval.results import Run


def test_all_weights_are_trained_and_a_finished_training_is_kept(command, undrawn, tmp_path):
    words = (
        "transfer",
        "--data",
        "digits",
        "--train-limit",
        40,
        "--limit",
        12,
        "--out",
        "run",
        "--probe",
        "finetune",
        "--set",
        "epochs=2",
        "--set",
        "warmup_epochs=0",
        "--set",
        "batch_size=20",
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
    code, _, err = command(*words, "--train-limit", 44)
    assert (code, "with another training images" in err) == (3, True)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_an_unreadable_image_is_passed_over_and_counted(command, tmp_path):
    random = np.random.default_rng(0)
    for split, images in (("train", 12), ("test", 6)):
        for name, light in (("bright", 190), ("dark", 60)):
            for number in range(images):
                path = tmp_path / "pictures" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = random.integers(light - 50, light + 50, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path)
    (tmp_path / "pictures" / "train" / "dark" / "3.png").write_bytes(b"no picture")
    settings = [
        word
        for each in ("epochs=1", "warmup_epochs=0", "cutoff_soft=0")
        for word in ("--set", each)
    ]
    given = ("--data", tmp_path / "pictures", "--probe", "finetune", "--out", "run")
    code, _, err = command("transfer", *given, *settings, "--no-samples")
    assert code == 0, err
    run = Run.load(tmp_path / "run")
    trained = run.value("transfer", "training_images", "illama_demo_nano+finetune")
    assert (trained.value, trained.reason) == (23, "1 unreadable ones left out")
    assert "1 images broken" in " ".join(err.split())
