from __future__ import annotations

import pytest

from illama_eval.render.format.glossary import (
    DEFINED,
    EXPLAINED,
    anchor,
    heading,
    in_order,
    map_label,
    metric_label,
    study_title,
    unit_label,
)
from illama_eval.results import Row


def test_studies_are_in_the_order_of_reading_and_unknown_ones_last():
    assert in_order(["new", "rank", "accuracy"]) == ["accuracy", "rank", "new"]


def test_a_listed_name_is_for_readers_and_another_loses_its_underscores():
    assert metric_label("top1") == "top-1 accuracy"
    assert metric_label("my_new_metric") == "my new metric"
    assert map_label("used") == "used map"
    assert study_title("rank") == "Attention rank"
    assert study_title("new_study") == "New study"
    assert unit_label("squared distance") == "distance²"
    assert len(unit_label("a very long unit")) == 9


@pytest.mark.parametrize("name", ["../../etc", "a b", "", "\x00", "x" * 300])
def test_an_anchor_is_a_word_that_a_file_and_an_id_can_have(name):
    assert anchor(name).replace("-", "").isalnum()
    assert len(anchor(name)) <= 48


def test_a_heading_is_cut_where_a_name_is_long():
    row = Row(subject="s" * 100, source="digits", metric="m", value=1.0, images=1)
    assert len(heading([row])) == 48 + len(" on digits")


def test_every_headline_metric_is_defined_in_one_line():
    named = {metric for known in EXPLAINED.values() for metric in known.headline}
    assert named - DEFINED.keys() <= {"pixel_accuracy_slide"}
    assert not any("\n" in text for text in DEFINED.values())
