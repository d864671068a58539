from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from illama_eval.render.models import load_models
from illama_eval.render.page.findings import findings_of, summary
from illama_eval.results import Row, Run, Verdict


def row(study, metric, value, unit="fraction", reason="", **ends):
    return Row(
        subject="nano",
        study=study,
        metric=metric,
        value=value,
        unit=unit,
        images=2000,
        reason=reason,
        **ends,
    )


@pytest.fixture
def say(save, tmp_path):
    """Return a function that gives the findings of rows and verdicts on one model."""

    names = itertools.count()

    def findings(study, *rows, verdicts=()):
        run = Run(header={}, rows=rows, verdicts=tuple(verdicts))
        return findings_of(load_models([save(run, tmp_path / str(next(names)))]), study)

    return findings


def test_accuracy_is_said_with_its_interval_and_images(say):
    top1 = row("accuracy", "top1", 0.7734, low=0.7653, high=0.7815)
    assert say("accuracy", top1) == ["Top-1 accuracy 77.34 % (76.53 to 78.15), on 2,000 images."]


@pytest.mark.parametrize(("right", "side"), [(0.9, "under"), (0.7, "over")])
def test_calibration_names_the_side_on_which_the_confidence_errs(say, right, side):
    (found,) = say(
        "calibration",
        row("accuracy", "top1", right),
        row("calibration", "ece", 0.1),
        row("calibration", "confidence", 0.8),
        verdicts=[
            Verdict(
                subject="nano",
                study="calibration",
                name="calibration",
                verdict="not calibrated",
                reason="",
            )
        ],
    )
    assert found.startswith("Not calibrated; ECE 10.00 %; ")
    assert f"{side}-confident on the whole: mean confidence 80.00 %" in found


def test_transfer_says_what_was_trained_and_what_came_of_it(say):
    assert say(
        "transfer",
        row("transfer", "training_images", 1438.0, "images"),
        row("transfer", "chosen_c", 2.5, "ratio", reason="on 144 held-out images"),
        row("accuracy", "top1", 0.95),
    ) == [
        (
            "1,438 training images; linear probe with C = 2.500, on 144 held-out images; top-1 "
            "accuracy 95.00 % on 2,000 test images."
        )
    ]


def test_segmentation_and_shape_bias_begin_with_their_first_number(say):
    (found,) = say("segmentation", row("segmentation", "miou_slide", 0.5))
    assert found == "mIoU, slide 50.00 %."
    (found,) = say("shape_bias", row("shape_bias", "shape_bias", 0.25))
    assert found == "Shape bias 25.00 %."


def test_a_study_without_a_sentence_of_its_own_shows_verdicts_or_two_numbers(say):
    numbers = [row("new", name, 0.5) for name in ("one", "two", "three")]
    assert say("new", *numbers) == ["One 50.00 %, two 50.00 %."]
    verdict = Verdict(subject="nano", study="new", name="a_name", verdict="yes", reason="")
    assert say("new", *numbers, verdicts=[verdict]) == ["A name: yes."]


def test_the_summary_of_one_model_names_accuracy_and_verdicts(run_of, write):
    run = run_of()
    token = replace_name(run.verdicts[0], "class_token_isolation")
    models = load_models([write(replace(run, verdicts=(token,)))])
    assert summary(models) == (
        "Top-1 accuracy 77.34 % (76.53 to 78.15) on 10,000 images; the class token attends."
    )


def replace_name(verdict, name):
    return Verdict(
        subject=verdict.subject,
        study=verdict.study,
        name=name,
        verdict=verdict.verdict,
        reason=verdict.reason,
    )


def test_the_summary_of_several_models_names_what_differs_or_leads(write_run, tmp_path):
    made = [
        write_run(tmp_path / name, accuracy=accuracy, seed=seed, subject=name)
        for seed, (name, accuracy) in enumerate({"a": 0.8, "b": 0.6, "c": 0.4}.items())
    ]
    two = summary(load_models(made[:2]))
    assert "headline numbers differ clearly on the same images" in two
    assert "Top-1 accuracy of \N{BLACK DIAMOND} b: \N{MINUS SIGN}" in two
    assert summary(load_models(made)).startswith(
        "\N{BLACK CIRCLE} a has the highest top-1 accuracy, "
    )
