"""One sentence per study: what it says of known rows, and what deserves a look."""

from __future__ import annotations

import pytest

from illama_eval.render.sentences import as_sentence, say_study, say_verdicts
from illama_eval.results import Row, Run, Verdict


def row(study, metric, value, unit="fraction", at=None, **fields):
    at = {} if at is None else at
    given = {"subject": "nano", "images": 2000, "at": at, **fields}
    return Row(study=study, metric=metric, value=value, unit=unit, **given)


def verdict(study, name, words, reason=""):
    return Verdict(subject="nano", study=study, name=name, verdict=words, reason=reason)


def say(study, *rows, verdicts=()):
    run = Run(header={}, rows=rows, verdicts=tuple(verdicts))
    return say_study(run, "nano", study)


def test_accuracy_is_said_with_its_interval_and_images():
    top1 = row("accuracy", "top1", 0.7734, low=0.7653, high=0.7815)
    said = say("accuracy", top1)
    assert said == ("it is right on 77.34 % (76.53 to 78.15) of 2,000 images", False)


def test_an_accuracy_of_chance_deserves_a_look():
    chance = verdict("accuracy", "chance", "no better than chance")
    said = say("accuracy", row("accuracy", "top1", 0.1), verdicts=[chance])
    assert said.text.startswith("it answers no better than chance: check that the labels")
    assert said.look


@pytest.mark.parametrize(
    ("words", "look", "begins"),
    [
        ("under-confident", True, "it is under-confident: 80.0 % sure and 90.0 % right"),
        ("not distinguishable from calibrated", False, "its confidence fits its accuracy, as far"),
    ],
)
def test_calibration_says_how_sure_the_model_is_and_how_often_right(words, look, begins):
    said = say(
        "calibration",
        row("accuracy", "top1", 0.9),
        row("calibration", "confidence", 0.8),
        row("calibration", "ece", 0.1),
        row("calibration", "ece_scaled", 0.0123),
        verdicts=[
            verdict("calibration", "calibration", words),
            verdict("calibration", "temperature", "scaling lowered ece"),
        ],
    )
    assert said.text.startswith(begins)
    assert "ECE 10.00 %" in said.text
    assert said.text.endswith("lowers the calibration error to 1.230 %")
    assert said.look == look


def test_a_temperature_that_harms_deserves_a_look_without_numbers_too():
    found = [
        verdict("calibration", "calibration", "not distinguishable from calibrated"),
        verdict("calibration", "temperature", "warning: scaling raised ece"),
    ]
    run = Run(header={}, rows=(), verdicts=tuple(found))
    said = say_verdicts(run, "nano", "calibration")
    assert said.look
    assert said.text.endswith("; a temperature makes the calibration error larger")


def test_the_rank_is_beside_its_control():
    at = {"layer": 1, "head": 1}
    rows = [
        row("rank", "rank_of_mean_map", 19.0, "index", low=18.7, high=19.3),
        row("rank", "rank_of_mean_map", 7.3, "index", {"map": "softmax"}, low=6.8, high=7.7),
        row("rank", "rank_of_mean_map", 65, "index", at),
    ]
    assert say("rank", *rows).text == (
        "its attention maps need 19.00 (18.70 to 19.30) of 65 singular values for 80 % of their "
        "sum; the same scores need 7.30 (6.80 to 7.70) without the mask"
    )


def test_collapse_names_what_is_seen_and_no_design():
    sound = [
        verdict("collapse", "class_token_isolation", "attends"),
        verdict("collapse", "row_mass", "below one by design"),
        verdict("collapse", "attention_sinks", "no sinks"),
    ]
    row_ = row("collapse", "reach", 0.9)
    said = say("collapse", row_, verdicts=sound)
    assert said == ("no collapse is seen; the class token sees the image", False)
    blind = verdict("collapse", "class_token_isolation", "isolated")
    said = say("collapse", row_, verdicts=[blind, *sound[1:]])
    assert said == ("the class token sees nothing of the image", True)
    unsure = verdict("collapse", "token_rank", "undecided", "not finite")
    said = say("collapse", row_, verdicts=[*sound, unsure])
    assert said.text.endswith("; undecided: token rank")


@pytest.mark.parametrize(
    ("words", "change", "look", "text"),
    [
        ("causal", 0, False, "it is causal: what comes later changes nothing in the earlier"),
        ("bidirectional", 0.675, False, "change the earlier ones by up to 67.50 %"),
        ("leaks through the denominator from block 1", 0.114, False, "by up to 11.40 %"),
        ("leaks from block 3", 0.2, True, "it is not causal: later patches change the earlier"),
    ],
)
def test_causality_says_how_much_changes(words, change, look, text):
    found = [verdict("causality", "causality", words)]
    said = say("causality", row("causality", "kept_change", change, "ratio"), verdicts=found)
    assert text in said.text
    assert said.look == look


def test_anytime_and_lens_say_their_steps():
    rows = [
        row("anytime", "prefix_top1", value, at={"given": given})
        for given, value in {"25 %": 0.29, "50 %": 0.51}.items()
    ]
    assert say("anytime", *rows).text == (
        "given the first 25 / 50 % of the patches it is right on 29.0 / 51.0 % of the images"
    )
    rows = [row("lens", "head_class", 0.2 * n, at={"layer": n}) for n in (1, 2, 3, 4)]
    assert say("lens", *rows).text == (
        "read off after block 2 of 4 its head is right on 40.00 %, after the last on 80.00 %"
    )


def test_distance_is_beside_what_equal_scores_would_give():
    rows = [
        row("distance", "attention_distance", 3.2861, "patches"),
        row("distance", "relative_distance", 0.9333, "ratio"),
        row("distance", "rollout_first_half", 0.8512),
        row("distance", "even_first_half", 0.9004),
    ]
    assert say("distance", *rows).text == (
        "attended patches are 3.29 patches away on average, 0.93 of what equal scores would give; "
        "85.1 % of what reaches the head comes from the first half of the patches, 90.0 % if all "
        "scores were equal"
    )


def test_transfer_says_what_was_trained_and_what_came_of_it():
    assert say(
        "transfer",
        row("transfer", "training_images", 1438.0, "images"),
        row("transfer", "chosen_c", 2.5, "ratio", reason="on 144 held-out images"),
        row("accuracy", "top1", 0.95),
    ).text == (
        "1,438 training images; linear probe with C = 2.500, on 144 held-out images; top-1 "
        "accuracy 95.00 % on 2,000 test images"
    )


def test_agreement_segmentation_and_shape_bias_begin_with_what_counts():
    said = say("agreement", row("agreement", "flips", 0.02))
    assert said.text == "it answers otherwise than the first model on 2.000 % of the images"
    said = say("segmentation", row("segmentation", "miou_slide", 0.5))
    assert as_sentence(said.text) == (
        "Its mean IoU over the classes is 50.00 % by windows that slide over the image."
    )
    cue = verdict("shape_bias", "cue", "decides by texture")
    said = say("shape_bias", row("shape_bias", "shape_bias", 0.25), verdicts=[cue])
    assert said.text.startswith("where shape and texture disagree, it goes by the texture more; ")


def test_a_study_without_a_sentence_of_its_own_shows_verdicts_or_two_numbers():
    numbers = [row("new", name, 0.5) for name in ("one", "two", "three")]
    assert say("new", *numbers).text == "one 50.00 %, two 50.00 %"
    assert say("new", *numbers, verdicts=[verdict("new", "a_name", "yes")]).text == "a name: yes"
    assert say("accuracy", *numbers) is None
