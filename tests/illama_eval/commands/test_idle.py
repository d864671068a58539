"""Every option that is given and would change nothing is refused with its name."""

from __future__ import annotations

import pytest

DIGITS = ("--data", "digits")


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("transfer", *DIGITS, "--probe", "knn", "--grid", 3), "--grid"),
        (("transfer", *DIGITS, "--neighbours", 3), "--neighbours"),
        (("transfer", *DIGITS, "--draws", 3), "--draws"),
        (("transfer", *DIGITS, "--preset", "quick"), "--preset"),
        (("transfer", *DIGITS, "--set", "epochs=1"), "--set"),
        (("transfer", *DIGITS, "--probe", "finetune", "--features", "class"), "--features"),
        (("transfer", *DIGITS, "--probe", "finetune", "--grid", 3), "--grid"),
        (("transfer", *DIGITS, "--probe", "finetune", "--shots", "1"), "--shots"),
        (("transfer", *DIGITS, "--probe", "finetune", "--cache", "kept"), "--cache"),
        (("run", "--only", "rank", "--bins", 9), "--bins"),
        (("run", "--only", "calibration", "--threshold", 0.9), "--threshold"),
        (("accuracy", *DIGITS, "--seed", 1), "--seed"),
        (("collapse", *DIGITS, "--seed", 1), "--seed"),
        (("segment", "--seed", 1), "--seed"),
        (("segment", "--preprocess", "paper-calibration"), "--preprocess"),
        (("segment", "--compile"), "--compile"),
        (("segment", "--ema"), "--ema"),
        (("speed", *DIGITS), "--data"),
        (("speed", "--limit", 9), "--limit"),
        (("speed", "--crop", "none"), "--crop"),
        (("speed", "--no-resume"), "--no-resume"),
        (("sweep", "--soft-mask", "0,1", "--weights", "random"), "--weights"),
        (("trajectory", "--model", "timm:any"), "--model"),
        (("quantize", "--sensitivity", "--dtype", "bf16"), "--dtype"),
        (("quantize", "--bits", 4, "--clipping", "minmax"), "--clipping"),
        (("quantize", "--bits", 8, "--group-size", 8), "--group-size"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value)),
)
def test_an_option_that_would_change_nothing_is_refused(command, words, option):
    code, _, err = command(*words)
    assert code == 2, err
    assert f"{option} changes nothing beside" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("option", ["--data", "--soft-mask", "--dtype", "--categories", "--limit"])
def test_decisions_of_others_take_no_options_of_models(command, tmp_path, option):
    table = "subject,shape,texture,decision,image\na,cat,dog,cat,1.png\n"
    (tmp_path / "others.csv").write_text(table)
    (tmp_path / "file").write_text("{}")
    value = {"--soft-mask": 1, "--dtype": "bf16", "--limit": 3, "--data": "digits"}
    given = (option, value.get(option, "file"))
    base = ("accuracy", "--predictions", "others.csv")
    if option in {"--categories", "--limit"}:
        base = ("shape-bias", "--observers", "others.csv")
    code, _, err = command(*base, *given)
    assert code == 2, err
    assert f"{option} changes nothing beside" in err


def test_a_set_without_splits_has_no_other_split(command):
    code, _, err = command("rank", "--data", "photos", "--split", "train")
    assert code == 2, err
    assert "--split train: photos has no splits" in err


def test_a_first_look_takes_no_options_of_images(command, golden_checkpoint):
    code, _, err = command("rank", golden_checkpoint, "--split", "train")
    assert code == 2, err
    assert "--split changes nothing beside a first look without --data" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("report", "--out", "here"), "name the RUN"),
        (("table", "run", "--label", "tab:one"), "--format markdown"),
        (("table", "run", "--format", "csv", "--caption", "One."), "--format csv"),
    ],
    ids=str,
)
def test_options_of_reports_that_would_change_nothing_are_refused(command, words, said):
    code, _, err = command(*words)
    assert code == 2, err
    assert said in err
