from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--step", "vti"), 2, "no step 'vti'"),
        (("--seeds", 0), 2, "--seeds"),
        (("--data", "nowhere"), 3, "nowhere"),
    ],
)
def test_what_cannot_be_run_is_one_line(command, words, code, said):
    found, out, err = command("roadmap", *words)
    assert (found, out) == (code, "")
    assert said in err
    assert len(err.splitlines()) == 1
