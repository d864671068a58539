from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from illama_eval.statistics import mean_interval, wilson_interval
from illama_eval.subjects.subject import SubjectError
from illama_eval.transfer.probe import (
    FeatureSet,
    ProbeConfig,
    ProbeTask,
    draw_shots,
    fit_neighbours,
    probe,
)


def make_task(images: int = 40, classes: int = 4) -> ProbeTask:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % classes
    features = torch.randn(images, 6, generator=generator) + 3 * torch.eye(classes, 6)[labels]
    ids = tuple(f"i/{number}" for number in range(images))
    one = FeatureSet(features=features, labels=labels, ids=ids, positions=np.arange(images))
    return ProbeTask(name="made", train=one, test=one, classes=classes)


def test_features_that_are_not_finite_are_refused():
    task = make_task()
    broken = task.train.features.clone()
    broken[3, 2] = torch.nan
    with pytest.raises(SubjectError, match="features of 1 training images are not finite"):
        probe(
            replace(task, train=replace(task.train, features=broken)),
            ProbeConfig(probe="linear", grid=(1.0,)),
        )


def test_test_features_that_are_not_finite_count_as_wrong():
    task = make_task()
    broken = task.test.features.clone()
    broken[:10] = torch.nan
    worse = replace(task, test=replace(task.test, features=broken))
    choices = ProbeConfig(probe="linear", grid=(1.0,), shots=("all",))
    top1 = next(row for row in probe(worse, choices).result.rows if row.metric == "top1")
    assert top1.value <= 0.75


def test_shots_of_one_seed_are_nested_and_stratified():
    train = make_task().train
    few, more = draw_shots(train, 2, 7), draw_shots(train, 5, 7)
    assert set(few.tolist()) < set(more.tolist())
    assert torch.bincount(train.labels[torch.from_numpy(more)]).tolist() == [5] * 4
    assert set(few.tolist()) != set(draw_shots(train, 2, 8).tolist())


def test_an_image_is_left_out_of_its_own_few_neighbours():
    task = replace(make_task(), own=torch.arange(40))
    lonely = replace(
        task,
        train=replace(task.train, labels=torch.arange(40)),
        classes=40,
        test=replace(task.test, labels=torch.arange(40)),
    )
    choices = ProbeConfig(probe="knn", neighbours=(1,), shots=(1,), draws=1)
    rows = [row for row in probe(lonely, choices).result.rows if row.metric == "top1"]
    assert [row.value for row in rows] == [0.0, 0.0]


def test_a_mean_over_draws_has_an_interval_over_images_and_one_over_draws():
    task = make_task(classes=2)
    noisy = replace(task.train, features=task.train.features + 4 * torch.randn(40, 6))
    choices = ProbeConfig(probe="knn", neighbours=(1,), shots=(1,), draws=4)
    rows = probe(replace(task, train=noisy), choices).result.rows
    drawn = [row.value for row in rows if "draw" in row.at]
    (images,) = (row for row in rows if row.metric == "top1" and set(row.at) == {"shots"})
    (draws,) = (row for row in rows if row.metric == "top1_over_draws")
    low, high = mean_interval(drawn)
    assert images.value == draws.value == pytest.approx(sum(drawn) / 4)
    assert (draws.low, draws.high) == pytest.approx((max(0, low), min(1, high)))
    assert "over the test images" in images.reason
    assert "over 4 draws of the training images" in draws.reason


def test_the_values_of_k_that_the_images_allow_are_used_and_the_others_named():
    config = ProbeConfig(probe="knn", neighbours=(20, 10, 100, 200))
    assert fit_neighbours(config, 200) == (config, "")
    fitted, note = fit_neighbours(config, 59)
    assert fitted.neighbours == (20, 10)
    assert note.startswith("k = 100, 200 left out: each image has 59 training images")
    assert fit_neighbours(config, 7)[0].neighbours == (7,)
    linear = ProbeConfig(probe="linear", grid=(1.0,))
    assert fit_neighbours(linear, 7) == (linear, "")


def test_the_held_out_accuracy_is_weighed_by_groups():
    task = make_task(400)
    config = ProbeConfig(probe="linear", grid=(1e-4, 1e-2))
    videos = tuple(f"video {number // 4 % 8}" for number in range(400))
    grouped = replace(task, train=replace(task.train, groups={"groups": videos}))
    rows = [
        next(row for row in probe(each, config).result.rows if row.metric == "held_out_top1")
        for each in (task, grouped)
    ]
    assert rows[0].value == rows[1].value
    spread = [row.replicates.std() for row in rows]
    assert spread[0] != spread[1]
    assert (rows[0].low, rows[0].high) == wilson_interval(rows[0].value * 40, 40)
    assert (rows[1].low, rows[1].high) != (rows[0].low, rows[0].high)
