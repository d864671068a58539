from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from illama_eval.quantize.schemes import QuantizationConfig, check_config, make_plan, sweep_configs
from illama_eval.subjects.subject import SubjectError

CPU = torch.device("cpu")


def test_every_linear_layer_is_in_the_plan_or_left_with_its_reason(subject):
    plan = make_plan(subject, QuantizationConfig(scheme="w4"))
    linear = {n for n, m in subject.model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert linear <= plan.chosen.keys() | plan.left.keys()
    assert not plan.chosen.keys() & plan.left.keys()
    assert plan.left["head"] == "excluded by 'head'"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scheme": "w5"}, "--scheme w5: use "),
        ({"group_size": 0}, "--group-size 0: a positive number"),
        ({"smooth": 1.5}, "--smooth 1.5: a number from 0 to 1"),
        ({"asymmetric": True, "scheme": "w8"}, "--asymmetric: w8 and fp8 have no zero points"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, words):
    with pytest.raises(SubjectError, match=words):
        check_config(replace(QuantizationConfig(scheme="w4"), **changes), CPU)


def test_a_pattern_that_fits_no_layer_and_one_that_fits_all_are_refused(subject):
    for exclude, words in ((("heda",), "matches no layer"), (("*",), "nothing is left")):
        with pytest.raises(SubjectError, match=words):
            make_plan(subject, QuantizationConfig(scheme="w4", exclude=exclude))


@pytest.mark.parametrize(("size", "near"), [(40, 32), (7, 4)])
def test_the_group_size_that_a_refusal_names_can_be_used(subject, size, near):
    given = QuantizationConfig(scheme="w4", group_size=size)
    with pytest.raises(SubjectError, match="does not divide") as refused:
        make_plan(subject, given)
    (named,) = map(int, re.findall(r"use (\d+),", str(refused.value)))
    assert named == near
    assert make_plan(subject, replace(given, group_size=named)).chosen


def test_a_sweep_holds_what_a_cpu_can_do_once_each(subject):
    configs = sweep_configs(subject, QuantizationConfig(scheme="w4"))
    assert len(configs) == len({str(config) for config in configs}) == 14
    assert not any("fp8" in str(config.scheme) for config in configs)
