from __future__ import annotations

import pytest

from illama.suggestions import did_you_mean

SOURCES = ("demo", "demo-shapes", "digits", "photos", "cifar10", "cifar100")


@pytest.mark.parametrize(
    ("given", "known", "hint"),
    [
        ("cifar1O", SOURCES, "; did you mean cifar10 or cifar100?"),
        ("CIFAR10", SOURCES, "; did you mean cifar10 or cifar100?"),
        ("tset", ("test", "train"), "; did you mean test?"),
        ("imagenet", SOURCES, ""),
        ("", SOURCES, ""),
    ],
)
def test_a_name_near_a_known_one_is_suggested(given, known, hint):
    assert did_you_mean(given, known) == hint
