from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from illama.distributed import World
from illama.training.loader import ImageDataset, draw_batches, load_batches, order_epoch, shard_test
from illama.training.recipe import find_recipe
from illama.workers import LoaderError

SMALL = find_recipe("demo").override(["image_size=8", "batch_size=20"])


CPU = torch.device("cpu")


def positions(recipe, first, last, world=None, images=50):
    drawn = draw_batches(images, recipe, first, last, world or World())
    return [each.positions.tolist() for each in drawn]


def test_an_epoch_meets_every_image_once_in_an_order_of_its_own():
    orders = [order_epoch(50, *given) for given in [(SMALL, 0), (SMALL, 1), (SMALL, 0)]]
    other = order_epoch(50, replace(SMALL, seed=1), 0)
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0].tolist() == orders[2].tolist()
    assert orders[0].tolist() != orders[1].tolist()
    assert orders[0].tolist() != other.tolist()
    assert positions(SMALL, 0, 2) == [orders[0][:20].tolist(), orders[0][20:40].tolist()]


def test_repeated_images_share_an_epoch_and_fall_into_different_passes():
    recipe = replace(SMALL, repeats=2, micro_batch=10)
    first, second = positions(recipe, 0, 1)
    assert sorted(first) == sorted(second)
    order = order_epoch(50, recipe, 0)
    assert np.unique(order, return_counts=True)[1].tolist() == [2] * 25


def test_a_shuffle_buffer_keeps_the_stored_order_nearby():
    recipe = replace(SMALL, shuffle_buffer=100)
    order = order_epoch(1000, recipe, 0)
    assert sorted(order) == list(range(1000))
    assert order.tolist() != order_epoch(1000, recipe, 1).tolist()
    near = np.abs(np.diff(order)) < 200
    assert near.mean() > 0.6
    assert (np.abs(np.diff(order_epoch(1000, SMALL, 0))) < 200).mean() < 0.45


def test_passes_and_processes_share_the_images_of_a_step():
    recipe = replace(SMALL, micro_batch=5)
    alone = positions(recipe, 0, 2)
    of_rank = [positions(recipe, 0, 2, World(rank, 2)) for rank in range(2)]
    assert len(alone) == 8
    assert of_rank[0] == alone[0::2]
    assert of_rank[1] == alone[1::2]
    assert sorted(np.concatenate(alone[:4])) == sorted(order_epoch(50, recipe, 0)[:20])


def test_drawing_goes_on_from_any_step():
    assert positions(SMALL, 3, 6) == positions(SMALL, 0, 6)[3:]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_test_image_is_dealt_once(size):
    dealt = [shard_test(10, 3, World(rank, size)) for rank in range(size)]
    seen = np.concatenate([each.positions for share in dealt for each in share])
    assert sorted(seen) == list(range(10))
    assert shard_test(1, 3, World(1, 2)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers, numbered_source, show):
    pictures = ImageDataset(numbered_source(broken=(7,)), show, seed=0, substitutes=True)
    recipe = replace(SMALL, micro_batch=5)
    first = list(load_batches(pictures, draw_batches(50, recipe, 0, 2, World()), 0, CPU))
    batches = list(load_batches(pictures, draw_batches(50, recipe, 0, 2, World()), workers, CPU))
    for one, two in zip(first, batches, strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)
        assert (one.positions == two.positions).all()
        assert one.broken == two.broken


def test_the_next_image_takes_the_place_of_a_broken_one(numbered_source, show):
    pictures = ImageDataset(numbered_source(broken=(7, 8)), show, seed=0, substitutes=True)
    drawn = next(iter(draw_batches(50, replace(SMALL, batch_size=50), 0, 1, World())))
    (batch,) = load_batches(pictures, [drawn], 0, CPU)
    assert len(batch.images) == 50
    assert dict(batch.broken) == {7: "half a picture", 8: "half a picture"}
    assert np.unique(batch.positions, return_counts=True)[1].max() == 3  # 9, for 7 and 8 too
    assert (batch.labels.numpy() == batch.positions % 10).all()


def test_a_worker_that_dies_is_reported_in_one_line(numbered_source):
    def kill(image, random):
        os.kill(os.getpid(), signal.SIGKILL)

    pictures = ImageDataset(numbered_source(), kill, seed=0, substitutes=True)
    with pytest.raises(LoaderError, match=r"a loader worker ended or hung .*fewer --workers"):
        list(load_batches(pictures, draw_batches(50, SMALL, 0, 2, World()), 1, CPU))


def test_what_a_picture_raises_in_this_process_is_not_hidden(numbered_source):
    def fail(image, random):
        raise RuntimeError("a shape")

    pictures = ImageDataset(numbered_source(), fail, seed=0, substitutes=True)
    with pytest.raises(RuntimeError, match="a shape"):
        list(load_batches(pictures, draw_batches(50, SMALL, 0, 2, World()), 0, CPU))
