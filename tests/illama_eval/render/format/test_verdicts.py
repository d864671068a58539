"""Every verdict that a study can reach has a sentence; those by design are no alarms."""

from __future__ import annotations

import pytest

from illama_eval.render.format.verdicts import say_reason, say_verdict
from illama_eval.results import Verdict
from illama_eval.studies.collapse import Collapse

COLLAPSE = [
    (rule.name, words)
    for by_design in (False, True)
    for rule in Collapse()._rules(by_design)
    for words in rule.words
]


def say(name, words, reason=""):
    return say_verdict(Verdict(study="any", name=name, verdict=words, reason=reason))


@pytest.mark.parametrize(("name", "words"), sorted(set(COLLAPSE)))
def test_every_kind_of_collapse_has_its_sentence(name, words):
    said = say(name, words)
    assert ":" not in said.text
    sound = ("not ", "no ", "none", "rows sum", "tokens differ", "below one by design")
    assert said.look == (not words.startswith(sound))


def test_the_block_of_a_leak_is_no_part_of_what_is_known():
    assert say("causality", "leaks from block 3") == say("causality", "leaks from block 12")
    assert not say("causality", "leaks through the denominator from block 1").look


def test_what_is_undecided_says_why_and_what_is_unknown_stays_as_it_is():
    text, look = say("token_rank", "undecided", "not finite")
    assert (text, look) == ("token rank: undecided (not finite)", False)
    assert say("a_name", "yes", "because").text == "a name: yes"
    assert "\x1b" not in say("a\x1b[2J", "[red]\x1b[2J").text


def test_a_reason_has_the_names_and_the_signs_of_the_tables():
    minus, arrow = "\N{MINUS SIGN}", "\N{RIGHTWARDS ARROW}"
    told = "ece 0.09 -> 0.01, -0.02 to +0.01; row_mass < 0.99, not_known, limit 1e-06, 2-3"
    assert say_reason(told) == (
        f"ECE 0.09 {arrow} 0.01, {minus}0.02 to +0.01; row mass < 0.99, not_known, limit 1e-06, 2-3"
    )
    assert "\x1b" not in say_reason("[red]\x1b[2J")
