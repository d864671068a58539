"""A run as trackers get it: every finite number with its ends, layers as steps, the identity."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import pytest

from illama.exits import InputError
from illama_eval.commands.export import export, parameters, scalars
from illama_eval.results import Row, Run


@pytest.fixture
def stored(write_run, tmp_path):
    return write_run(tmp_path / "stored")


def test_numbers_have_their_ends_and_layers_are_steps(stored):
    run = Run.load(stored)
    found = {(each.name, each.step): each.value for each in scalars(run, "nano")}
    top1 = run.value("accuracy", "top1")
    for end, value in (("", top1.value), (".low", top1.low), (".high", top1.high)):
        assert found[f"accuracy.top1{end}", 0] == value
    second = run.value("rank", "rank_per_image", layer=2)
    assert found["rank.rank_per_image_by_layer", 2] == second.value
    assert all(map(math.isfinite, found.values()))


def test_undefined_numbers_and_other_subjects_stay_out():
    rows = (
        Row(subject="a", study="s", metric="m", value=None, images=1, reason="none"),
        Row(subject="a", study="s", metric="n", value=1, images=1, at={"class": "cat"}),
        Row(subject="b", study="s", metric="m", value=2.0, images=1),
    )
    found = list(scalars(Run(header={}, rows=rows), "a"))
    assert [(each.name, each.value, each.step) for each in found] == [("s.n.class_cat", 1.0, 0)]


def test_parameters_name_the_images_and_the_weights(stored):
    given = parameters(Run.load(stored), 0)
    assert given["source.fingerprint"]
    assert any("weights_sha256" in name for name in given)


def test_a_tracker_that_is_not_installed_is_named(stored, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="wandb is not installed; pip install wandb"):
        export(stored, "wandb")


def test_wandb_gets_one_run_a_subject(stored, monkeypatch, tmp_path):
    logged = {}

    class Log:
        url = "https://wandb.example/nano"

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def log(self, values, step):
            logged[step] = values

    def init(name, config, dir):  # noqa: A002 - as wandb names it
        logged["init"] = (name, config, dir)
        return Log()

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    assert export(stored, "wandb", tmp_path) == {"nano": Log.url}
    assert logged["init"][0] == "stored/nano"
    assert logged[0]["accuracy.top1"] == Run.load(stored).value("accuracy", "top1").value
    assert set(logged) == {"init", 0, 1, 2}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # other people's packages warn of their own future
def test_mlflows_file_store_has_the_numbers_and_the_run(stored, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    export(stored, "mlflow", tmp_path / "store")
    client = mlflow.MlflowClient((tmp_path / "store").as_uri())
    (kept,) = client.search_runs(["0"])
    top1 = Run.load(stored).value("accuracy", "top1")
    assert kept.data.metrics["accuracy.top1"] == top1.value
    assert kept.data.metrics["accuracy.top1.low"] == top1.low
    assert kept.info.run_name == "stored/nano"
    history = client.get_metric_history(kept.info.run_id, "rank.rank_per_image_by_layer")
    assert [each.step for each in history] == [1, 2]
    assert [each.path for each in client.list_artifacts(kept.info.run_id)] == ["run.json"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # other people's packages warn of their own future
def test_tensorboards_reader_finds_the_numbers(stored, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    place = str(tmp_path / "logs" / "stored" / "nano")
    assert export(stored, "tensorboard", tmp_path / "logs") == {"nano": place}
    read = EventAccumulator(place)
    read.Reload()
    top1 = Run.load(stored).value("accuracy", "top1").value
    assert read.Scalars("accuracy/top1")[0].value == pytest.approx(top1, rel=1e-6)
    steps = [each.step for each in read.Scalars("rank/rank_per_image_by_layer")]
    assert steps == [1, 2]
