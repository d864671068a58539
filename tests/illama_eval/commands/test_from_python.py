"""`illama_eval.evaluate` with names, files and objects: the same run as the command line's."""

from __future__ import annotations

import pytest
import torch

import illama_eval
from illama.checkpoint.save import save_checkpoint
from illama.config import Config
from illama.model import Model
from illama.sources import open_source
from illama_eval.studies import STUDIES
from illama_eval.subjects.checkpoint import open_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("python") / "small.safetensors"
    config = Config(image_size=32, patch_size=8, width=12, depth=2, heads=2, classes=10)
    save_checkpoint(Model(config), path)
    return path


def test_files_and_names_are_enough(checkpoint):
    run = illama_eval.evaluate(str(checkpoint), data="demo", studies=("rank",), limit=20)
    assert {row.study for row in run.rows} == {"rank"}
    assert run.header["source"]["images"] == 20


def test_names_and_objects_give_the_same_rows(checkpoint):
    named = illama_eval.evaluate(checkpoint, data="demo", studies=["accuracy"], limit=20)
    subject = open_checkpoint(checkpoint, device=torch.device("cpu"))
    source = open_source("demo").limit(20, 0)
    made = illama_eval.evaluate(subject, source, [STUDIES["accuracy"]()])
    assert made.rows == named.rows


def test_without_data_files_and_objects_are_measured_on_the_same_photographs(
    checkpoint, monkeypatch
):
    monkeypatch.delenv("ILLAMA_DATA", raising=False)
    subject = open_checkpoint(checkpoint, device=torch.device("cpu"))
    runs = [illama_eval.evaluate(each, studies=["rank"], limit=5) for each in (checkpoint, subject)]
    assert [run.header["source"]["name"] for run in runs] == ["photos", "photos"]
    assert runs[0].rows == runs[1].rows


def test_parameters_of_a_study_are_given_by_its_name(checkpoint):
    given = {"rank": {"threshold": 0.5}}
    run = illama_eval.evaluate(checkpoint, data="demo", studies=given, limit=20)
    assert run.header["identity"]["studies"]["rank"]["threshold"] == 0.5


def test_several_models_are_measured_on_the_same_images_and_written(checkpoint, tmp_path):
    other = open_checkpoint(checkpoint, device=torch.device("cpu"), name="again")
    models = [checkpoint, other]
    run = illama_eval.evaluate(models, "demo", ["accuracy"], out=tmp_path / "run", limit=20)
    assert {row.subject for row in run.rows} == {"small", "again"}
    assert illama_eval.Run.load(tmp_path / "run").rows == run.rows


def test_an_unknown_study_is_named_with_what_was_meant(checkpoint):
    with pytest.raises(ValueError, match="no study 'ranks'; did you mean rank"):
        illama_eval.evaluate(checkpoint, data="demo", studies=["ranks"])
    with pytest.raises(ValueError, match="labels"):
        illama_eval.evaluate(checkpoint, data="photos", studies=["accuracy"])


def test_the_public_names_are_listed_before_they_are_used():
    assert set(illama_eval.__all__) <= set(dir(illama_eval))


def test_one_study_may_be_named_without_a_list(checkpoint):
    run = illama_eval.evaluate(checkpoint, data="demo", studies="rank", limit=5)
    assert {row.study for row in run.rows} == {"rank"}


def test_no_model_is_not_the_demo_and_no_study_is_refused(checkpoint):
    with pytest.raises(ValueError, match="no model is given"):
        illama_eval.evaluate([], data="demo", studies="rank", limit=5)
    with pytest.raises(ValueError, match="no study is given"):
        illama_eval.evaluate(checkpoint, data="demo", studies=(), limit=5)


@pytest.mark.parametrize("setting", [{"soft_mask": 1.0}, {"dtype": "bf16"}, {"crop": "0.5"}])
def test_settings_that_an_open_model_would_not_be_given_are_refused(checkpoint, setting):
    opened = open_checkpoint(checkpoint, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="changes nothing beside an open model"):
        illama_eval.evaluate([checkpoint, opened], data="demo", studies="rank", **setting)


def test_settings_that_open_images_would_not_be_given_are_refused(checkpoint):
    with pytest.raises(ValueError, match="split changes nothing beside an open source"):
        illama_eval.evaluate(checkpoint, open_source("demo"), studies="rank", split="train")
