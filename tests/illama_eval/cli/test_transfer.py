from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "words",
    [
        ("--shots", "0"),
        ("--shots", "some"),
        ("--set", "epochs=1"),
        ("--probe", "finetune", "--shots", "1"),
        ("--probe", "knn", "--neighbours", "a"),
    ],
)
def test_options_without_meaning_are_refused(command, words):
    assert command("transfer", "--data", "digits", *words)[0] == 2
