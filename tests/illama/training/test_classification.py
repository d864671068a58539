from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from illama.distributed import World
from illama.sources.source import SourceError
from illama.training.classification import Classification, loss_and_accuracy
from illama.training.loader import ImageDataset, load_batches, shard_test
from illama.training.recipe import find_recipe

CPU = torch.device("cpu")


def test_evaluation_counts_ranks_and_averages_over_the_images_it_could_read(numbered_source, show):
    labels = np.array([0, 1, 9, 2, 5])
    logits = torch.zeros(4, 10)
    logits[0, 0] = 5
    logits[1, [3, 4]] = 5
    logits[2, :6] = 5
    logits[3, 2] = 1
    given = replace(numbered_source(5, broken=(4,)), labels=labels)
    pictures = ImageDataset(given, show, seed=0, substitutes=False)
    seen = loss_and_accuracy(
        {"": lambda images: logits[images[:, 0].long()], "_other": lambda images: -logits[:4]},
        load_batches(pictures, shard_test(5, 5, World()), 0, CPU),
        World(),
    )
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[:4])).item()
    assert seen["test_loss"] == pytest.approx(expected)
    assert (seen["test_acc1"], seen["test_acc5"]) == (50, 75)
    assert set(seen) == {
        f"test_{name}{end}" for name in ("loss", "acc1", "acc5") for end in ("", "_other")
    }


def test_test_images_are_numbered_by_the_class_names_of_the_training_images(small_source):
    train = replace(small_source(), labels=np.arange(50) % 3, classes=("c", "a", "b"))
    test = replace(small_source("test", 4), labels=np.array([0, 1, 1, 0]), classes=("A", "c"))
    recipe = find_recipe("demo").override(["classes=3"])
    known, tested = Classification().check(train, test, recipe)
    assert known.labels is train.labels
    assert tested.labels.tolist() == [1, 0, 0, 1]
    assert known.classes == tested.classes == ("c", "a", "b")
    with pytest.raises(SourceError, match=r"1 of its 2 classes are not among the head's 3 \('d'"):
        Classification().check(train, replace(test, classes=("a", "d")), recipe)
