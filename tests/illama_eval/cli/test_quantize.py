from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bits", 5), "5 is not 8, 6, 4, 3 or 2"),
        (("--bits", 8, "--scheme", "w4"), "give one, not 8 and w4"),
        (("--rounding", "up"), "--rounding"),
    ],
)
def test_flags_that_contradict_are_a_usage_error(command, words, said):
    code, out, err = command("quantize", *words)
    assert (code, out) == (2, "")
    assert said in err
