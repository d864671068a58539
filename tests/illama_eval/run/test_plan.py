"""What is known of the images of a batch, and how they reach each subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from illama.sources.source import hash_order
from illama.transforms import Transform
from illama_eval.bootstrap import keys_of, weights_for, weights_of
from illama_eval.run.plan import BatchPlan

RGB = Transform(image_size=4, resize="direct")
GREY = Transform(image_size=4, resize="direct", mean=(0.5,) * 3, std=(0.5,) * 3)


@dataclass
class Prepared:
    """What a plan needs of a subject."""

    prepare: Any
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable


def test_a_batch_says_of_its_images_what_the_source_says(levels: Callable[..., Any]) -> None:
    source = levels()
    plan = BatchPlan([Prepared(RGB)], source, 6)
    loaded = list(plan.load(0, 1))
    assert [len(each.positions) for each in loaded] == [6, 6, 2]
    batch = plan.batch(loaded[1].part(2, 3))
    assert batch.positions.tolist() == [14, 15, 16]
    assert batch.ids == source.ids[14:17]
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 1, 0]
    assert batch.order.tolist() == hash_order(source.ids)[14:17].tolist()
    assert torch.equal(batch.keys, keys_of(batch.ids))
    assert torch.equal(batch.weights, weights_for(batch.ids, None))
    assert batch.weights.dtype == torch.float64
    assert batch.group_keys is None


def test_images_of_a_group_weigh_alike(levels: Callable[..., Any]) -> None:
    source = levels()
    object.__setattr__(source, "groups", {"way": tuple("ab" * 10)})
    plan = BatchPlan([Prepared(RGB)], source, 20)
    (loaded,) = plan.load(0, 0)
    batch = plan.batch(loaded)
    assert batch.group_keys is not None
    assert torch.equal(batch.weights, weights_of(batch.group_keys))
    assert torch.equal(batch.weights[:, 0], batch.weights[:, 2])


def test_each_subject_takes_the_same_pixels_in_its_own_colours(levels: Callable[..., Any]) -> None:
    source = levels()
    plan = BatchPlan([Prepared(RGB), Prepared(GREY)], source, 20)
    (loaded,) = plan.load(0, 0)
    assert len(loaded.inputs) == 1
    for number, transform in enumerate((RGB, GREY)):
        seen = plan.normalize(number, plan.inputs(number, loaded))
        expected = torch.stack([transform(source.read(i)) for i in range(20)])
        assert torch.equal(seen, expected)


def test_a_subset_of_the_classes_renumbers_the_labels(levels: Callable[..., Any]) -> None:
    source = levels(labels=False)
    object.__setattr__(source, "labels", np.full(20, 7))
    object.__setattr__(source, "class_subset", (3, 7))
    plan = BatchPlan([Prepared(RGB)], source, 20)
    (loaded,) = plan.load(0, 0)
    labels = plan.batch(loaded).labels
    assert labels is not None
    assert labels.tolist() == [1] * 20
