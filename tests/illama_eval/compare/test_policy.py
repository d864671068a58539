"""Policies: what a rule leaves to the study, and what a file may not say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from illama_eval.compare.change import Change
from illama_eval.compare.policy import Policy, Rule, read_policy
from illama_eval.results import ResultError

FILE = """
inconclusive = "fail"
removed = "warn"

[metrics.accuracy.top1]
absolute = 0.002
relative = 0.01

[metrics.accuracy.nll]
severity = "warn"
significant = false

[metrics.calibration."*"]
severity = "ignore"

[metrics.rank.rank_per_image]
better = "higher"
"""


def make_change(study="accuracy", metric="top1", better="higher"):
    return Change(
        study=study,
        metric=metric,
        at={},
        unit="fraction",
        images=10,
        better=better,
        tolerance=0.001,
        baseline=0.5,
        candidate=0.5,
    )


@pytest.fixture(params=["utf-8", "utf-8-sig"])
def policy(request, tmp_path):
    path = tmp_path / "gate.toml"
    path.write_text(FILE, encoding=request.param)
    return read_policy(path)


def test_a_file_is_read_rule_by_rule(policy):
    assert (policy.inconclusive, policy.new, policy.removed) == ("fail", "allow", "warn")
    assert policy.rule("accuracy", "top1") == Rule(absolute=0.002, relative=0.01, severity="fail")
    assert policy.rule("accuracy", "nll") == Rule(significant=False, severity="warn")
    assert policy.rule("calibration", "ece") == Rule(severity="ignore")
    assert policy.rule("collapse", "reach") == Rule()
    assert policy.named == [("accuracy", "top1"), ("accuracy", "nll"), ("rank", "rank_per_image")]


def test_a_study_declares_what_a_rule_leaves_open(policy):
    settled = Rule().settled(make_change())
    assert settled == Rule(better="higher", absolute=0.001, severity="fail")
    assert policy.rule("accuracy", "top1").settled(make_change()).absolute == 0.002
    ranks = make_change("rank", "rank_per_image", None)
    assert policy.rule("rank", "rank_per_image").settled(ranks).better == "higher"


def test_metrics_that_repeat_another_or_have_no_better_side_are_ignored_unless_named():
    assert Rule().settled(make_change("calibration", "ece_left", "lower")).severity == "ignore"
    assert Rule().settled(make_change("rank", "rank_per_image", None)).severity == "ignore"
    assert Rule().settled(make_change("calibration", "ece", "lower")).severity == "fail"


def test_the_larger_of_both_tolerances_counts():
    rule = Rule(absolute=0.002, relative=0.01)
    assert rule.margin(0.1) == 0.002
    assert rule.margin(-0.5) == 0.005
    assert Rule().margin(3) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strict = true", "unknown field `strict`"),
        ('new = "maybe"', "new: Invalid enum value 'maybe'"),
        ("inconclusive = true", "inconclusive: Expected `str`, got `bool`"),
        ("metrics = 3", "metrics: Expected `object`, got `int`"),
        ("[metrics]\naccuracy = 1", "metrics.accuracy: Expected `object`, got `int`"),
        ("[metrics.accuracy]\ntop1 = 0.1", "metrics.accuracy.top1: Expected `object`, got `float`"),
        ("[metrics.a.b]\nabsolut = 1", "metrics.a.b: Object contains unknown field `absolut`"),
        ("[metrics.a.b]\nabsolute = -1", "metrics.a.b.absolute: Expected `float` >= 0.0"),
        ("[metrics.a.b]\nabsolute = true", "metrics.a.b.absolute: Expected `float | str | null`"),
        ("[metrics.a.b]\nrelative = nan", "metrics.a.b.relative: Expected `float`"),
        ("[metrics.a.b]\nrelative = inf", "metrics.a.b.relative: Expected `float`"),
        ("[metrics.a.b]\nsignificant = 1", "metrics.a.b.significant: Expected `bool`"),
        ("[metrics.a.b]\nrelative = 5", "metrics.a.b.relative: Expected `float` <= 1"),
        ('[metrics.a.b]\nabsolute = "5"', "metrics.a.b.absolute: '5' is not a loss"),
        ('[metrics.a.b]\nabsolute = "-1 pp"', "metrics.a.b.absolute: '-1 pp' is not a loss"),
        ('[metrics.a.b]\nbetter = "equal"', "metrics.a.b.better: Invalid enum value 'equal'"),
        ("[metrics.a.b\n", "gate.toml"),
    ],
)
def test_what_a_policy_may_not_say_is_named(tmp_path, text, said):
    path = tmp_path / "gate.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ResultError) as caught:
        read_policy(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("given", "unit", "loss"),
    [
        (0.005, "fraction", 0.005),
        ("0.5 pp", "fraction", 0.005),
        (".5pp", "fraction", 0.005),
        ("0.01 nats", "nats", 0.01),
        (5.0, "dB", 5.0),
        ("2 squared distance", "squared logit", None),
    ],
)
def test_a_loss_has_the_unit_of_its_metric(given, unit, loss):
    change = replace(make_change(), unit=unit)
    if loss is None:
        with pytest.raises(ResultError, match=f"the unit of the metric is {unit}"):
            Rule(absolute=given).settled(change)
    else:
        assert Rule(absolute=given).settled(change).absolute == pytest.approx(loss)


@pytest.mark.parametrize("given", [5.0, 1.0, "100 pp"])
def test_a_loss_that_lets_everything_pass_is_refused_with_the_unit(given):
    with pytest.raises(ResultError, match=r"accuracy\.top1.*is a fraction.*\"0.5 pp\" or 0.005"):
        Rule(absolute=given).settled(make_change())


def test_a_loss_in_another_unit_is_refused_with_both():
    with pytest.raises(ResultError, match="'5 %': the unit of the metric is fraction; write"):
        Rule(absolute="5 %").settled(make_change())


def test_a_missing_policy_is_refused(tmp_path):
    with pytest.raises(ResultError, match="cannot be read"):
        read_policy(tmp_path / "gate.toml")


def test_no_policy_is_an_empty_one():
    assert Policy().rule("accuracy", "top1") == Rule()
    assert Policy().named == []
