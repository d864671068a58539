from __future__ import annotations

from dataclasses import replace

from illama_eval.render.models import load_models
from illama_eval.render.page.findings import findings_of, summary


def test_one_model_has_a_sentence_and_several_have_theirs_under_their_names(run_of, save, tmp_path):
    one = load_models([save(run_of(), tmp_path / "one")])
    (sentence,) = findings_of(one, "accuracy")
    assert sentence.startswith("It is right on 77.34 % (76.53 to 78.15) of 10,000 images, within")
    two = load_models([save(run_of(subjects=("nano", "micro")), tmp_path / "two")])
    names = [sentence.partition(": ")[0] for sentence in findings_of(two, "accuracy")]
    assert names == ["\N{BLACK CIRCLE} nano", "\N{BLACK DIAMOND} micro"]


def test_the_summary_of_one_model_names_accuracy_and_verdicts(run_of, write):
    assert summary(load_models([write(run_of())])) == (
        "Top-1 accuracy 77.34 % (76.53 to 78.15) on 10,000 images; no collapse is seen; the class "
        "token sees the image."
    )


def test_the_summary_of_several_models_names_what_differs_or_leads(write_run, tmp_path):
    made = [
        write_run(tmp_path / name, accuracy=accuracy, seed=seed, subject=name)
        for seed, (name, accuracy) in enumerate({"a": 0.8, "b": 0.6, "c": 0.4}.items())
    ]
    two = summary(load_models(made[:2]))
    assert "headline numbers differ clearly on the same images" in two
    names = "\N{BLACK DIAMOND} b minus \N{BLACK CIRCLE} a"
    assert f"Top-1 accuracy, {names}: \N{MINUS SIGN}" in two
    assert summary(load_models(made)).startswith(
        "\N{BLACK CIRCLE} a has the highest top-1 accuracy, "
    )


def test_what_several_models_share_is_said_once(run_of, save, tmp_path):
    names = ("a", "b", "c", "d")
    models = load_models([save(run_of(subjects=names), tmp_path / "run")])
    assert findings_of(models, "collapse") == [
        "Each of the 4 models: no collapse is seen; the class token sees the image."
    ]
    assert len(findings_of(models, "accuracy")) == 4


def test_a_range_says_what_goes_from_where_to_where(run_of, save, tmp_path):
    run = run_of(subjects=("nano", "nano at 1"))
    variable = {"name": "soft_mask", "values": {"nano": 0.0, "nano at 1": 1.0}, "reference": "nano"}
    swept = replace(run, header={**run.header, "variable": variable})
    assert summary(load_models([save(swept, tmp_path / "run")])).startswith(
        "From soft mask 0 to 1: top-1 accuracy 77.34 % to 76.09 %"
    )


def test_without_a_leader_the_summary_says_how_far_accuracies_go(run_of, save, tmp_path):
    names = ("a", "b", "c", "d")
    said = summary(load_models([save(run_of(subjects=names), tmp_path / "run")]))
    assert said == "4 models, side by side: top-1 accuracy from 73.59 to 77.34 %."
