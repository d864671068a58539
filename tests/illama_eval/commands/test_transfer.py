"""`illama-eval transfer` as a user calls it: three probes, what is refused, and what is kept."""

from __future__ import annotations

import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from illama.sources import open_source
from illama_eval.cli import main
from illama_eval.render.figures.transfer import draw_transfer
from illama_eval.results import Run
from illama_eval.transfer import features as features_module

FEW = ("--train-limit", 60, "--limit", 20)


LINEAR = ("transfer", "--data", "digits", *FEW, "--grid", 3, "--out", "run")


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """Measure a linear probe once; return the folder of its `run` and of its features, `kept`."""
    root = tmp_path_factory.mktemp("probed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("illama_eval.commands.evaluate.render_directory", lambda _: None)
        patch.setattr("sys.argv", ["illama-eval", *map(str, LINEAR), "--cache", "kept"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return root


def test_a_linear_probe_is_measured_as_any_model(command, sketched, tmp_path):
    words = (*LINEAR, "--shots", "1,all", "--draws", 2, "--control")
    code, out, err = command(*words, "--no-samples")
    assert code == 0, err
    assert "illama_demo_nano+linear" in out
    run = Run.load(tmp_path / "run")
    assert {row.study for row in run.rows} == {"accuracy", "calibration", "transfer"}
    for subject in ("illama_demo_nano+linear", "random+linear"):
        top1 = run.value("accuracy", "top1", subject)
        everything = run.value("transfer", "top1", subject, shots="all")
        assert (top1.value, top1.low, top1.high) == (
            everything.value,
            everything.low,
            everything.high,
        )
        assert top1.value > 0.3
        one = run.value("transfer", "top1", subject, shots=1)
        drawn = [run.value("transfer", "top1", subject, shots=1, draw=draw) for draw in (1, 2)]
        assert one.value == pytest.approx(sum(row.value for row in drawn) / 2)
        grid = [row for row in run.rows if row.subject == subject and "C" in row.at]
        assert [row.at["C"] for row in grid] == ["1e-06", "0.316228", "100000"]
        best = run.value("transfer", "held_out_top1", subject)
        assert best.value == max(row.value for row in grid)
    names = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert {"transfer_few_shot.svg", "transfer_by_c.svg"} <= names
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Accuracy with few training images" in page
    assert "What the features are worth on other images" in page
    assert str(tmp_path) not in (tmp_path / "run" / "run.json").read_text("utf-8")


def test_a_finished_run_is_shown_again_and_another_is_refused(
    command, undrawn, probed, tmp_path, monkeypatch
):
    shutil.copytree(probed / "run", tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    fill = features_module._fill
    monkeypatch.setattr(features_module, "_fill", None)  # extracting again would fail
    code, out, _ = command(*LINEAR)
    assert code == 0
    assert "illama_demo_nano+linear" in out
    code, _, err = command(*LINEAR[:-4], "--grid", 5, "--out", "run")
    assert (code, "another studies.transfer.grid" in err) == (3, True)
    monkeypatch.setattr(features_module, "_fill", fill)
    assert command(*LINEAR, "--overwrite")[0] == 0
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    code, out, err = command("compare", "run", "run")
    assert code == 0, err


def test_neighbours_vote_and_share_the_features(command, undrawn, probed, tmp_path):
    shutil.copytree(probed / "kept", tmp_path / "kept")
    files = {path.name for path in (tmp_path / "kept").glob("*.npy")}
    words = ("transfer", "--data", "digits", *FEW, "--probe", "knn", "--cache", "kept")
    code, _, err = command(*words, "--neighbours", "5,1,20", "--out", "knn")
    assert code == 0, err
    assert {path.name for path in (tmp_path / "kept").glob("*.npy")} == files
    run = Run.load(tmp_path / "knn")
    assert run.value("accuracy", "top1").value == run.value("transfer", "top1", k=5).value
    assert [drawing.name for drawing in draw_transfer(run)] == ["transfer_by_k"]


def test_a_killed_transfer_goes_on(command, undrawn, tmp_path, monkeypatch):
    put, calls = features_module._Store.put, []

    def stop(self, positions, values):
        put(self, positions, values)
        calls.append(len(positions))
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(features_module._Store, "put", stop)
    code, _, err = command(*LINEAR, "--batch-size", 16)
    assert code == 128 + signal.SIGTERM
    assert "resume with: illama-eval transfer --data digits" in err
    assert not (tmp_path / "run" / "run.json").exists()
    assert command(*LINEAR, "--batch-size", 16)[0] == 0
    assert sum(calls) == 80  # no image twice


def write_folder(root, classes: int = 2, images: int = 6):
    for label in range(classes):
        (root / f"class{label}").mkdir(parents=True)
        for number in range(images):
            pixels = np.random.default_rng(100 * label + number).integers(
                60 * label, 60 * label + 60, (16, 16, 3), dtype=np.uint8
            )
            Image.fromarray(pixels).save(root / f"class{label}" / f"{number}.png")
    return root


def test_a_set_without_splits_is_said_to_be_cut(command, undrawn, tmp_path):
    write_folder(tmp_path / "photos-of-two")
    words = ("transfer", "--data", "photos-of-two")
    code, _, err = command(*words, "--grid", 3, "--out", "linear")
    assert code == 0, err
    assert "are the same; 2 of 12, drawn by class (seed 0), are tested" in " ".join(err.split())
    code, _, err = command(*words, "--probe", "knn", "--neighbours", 3, "--out", "knn")
    assert code == 0, err
    assert "each is classified by all others" in " ".join(err.split())
    assert Run.load(tmp_path / "knn").value("accuracy", "top1").images == 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shots", "150"), "--shots 150: class"),
        (("--data", "two", "--train-data", "one"), "their classes differ"),
        (("--data", "photos"), "transfer needs labels"),
        (("--data", "one"), "there is one class"),
        (("--train-data", "digits-again.npz"), "are also trained on"),
        (("--train-data", "nothing"), "nothing does not exist"),
        (("--class-subset", "x.txt"), "for a model's own head"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(command, tmp_path, words, said):
    write_folder(tmp_path / "one", classes=1)
    write_folder(tmp_path / "two")
    digits = open_source("digits")
    images = np.stack([digits.read(i) for i in range(50)])
    np.savez(tmp_path / "digits-again.npz", images=images, labels=digits.labels[:50])
    (tmp_path / "x.txt").write_text("0\n", encoding="utf-8")
    given = words if "--data" in words else ("--data", "digits", *words)
    code, _, err = command("transfer", *given, "--grid", 3, "--out", "run")
    assert (code, said in err, err.strip().count("\n")) == (3, True, 0), err
