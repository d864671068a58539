from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from illama.checkpoint.load import read_checkpoint
from illama.sources import open_source
from illama.sources.demo import draw
from illama.training.recipe import find_recipe
from illama.transforms import to_tensor
from illama_eval.run.evaluate import evaluate
from illama_eval.studies.segmentation import Segmentation
from illama_eval.subjects.checkpoint import DEMO_CHECKPOINT, open_checkpoint
from illama_eval.subjects.segmenter import DEMO_SEGMENTER, check_masks, open_segmenter

LOG = DEMO_CHECKPOINT.with_suffix(".log.jsonl")


def test_the_bundled_checkpoint_knows_the_demo_pictures():
    subject = open_checkpoint(DEMO_CHECKPOINT, device="cpu")
    drawn = draw("test", 200)
    (seen,) = subject.observe(
        subject.transform.normalize(torch.stack([*map(to_tensor, drawn.images)])), {"logits"}
    )
    assert subject.soft_mask == 0
    assert np.mean(seen.logits.argmax(-1).numpy() == drawn.labels) >= 0.95


def test_the_bundled_checkpoint_was_made_by_the_demo_recipe_and_its_log_lies_beside_it():
    args = read_checkpoint(DEMO_CHECKPOINT).args
    recipe = find_recipe("demo").to_dict()
    records = [json.loads(line) for line in LOG.read_text().splitlines()]
    shared = recipe.keys() & args.keys()  # the recipe has grown since; what it had still holds
    assert {"epochs", "lr", "batch_size", "cutoff_soft", "soft_mask", "seed", "dtype"} <= shared
    assert {name: args[name] for name in shared} == {name: recipe[name] for name in shared}
    assert [record["epoch"] for record in records] == list(range(recipe["epochs"]))
    assert records[0]["train_soft_mask_rate"] == 1
    assert records[-1]["test_soft_mask_rate"] == 0
    assert records[-1]["test_acc1"] >= 95


@pytest.mark.slow
def test_the_bundled_checkpoint_was_trained_on_the_pictures_that_are_drawn_now():
    drawn = open_source("demo", split="train")
    assert read_checkpoint(DEMO_CHECKPOINT).args["train_fingerprint"] == drawn.fingerprint


def test_the_bundled_segmenter_knows_the_demo_shapes_far_better_than_one_answer_would():
    subject = open_segmenter(DEMO_SEGMENTER, device=torch.device("cpu"))
    source = open_source("demo-shapes").limit(2, 0)
    check_masks(source, [subject])
    found = evaluate(subject, source, [Segmentation(names=source.mask_classes)])
    background = found.value("segmentation", "pixels", **{"class": "background"}).value
    assert found.value("segmentation", "miou_slide").value > 0.8 > 3 * background / 11
    log = DEMO_SEGMENTER.with_suffix(".log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["test_miou"] > 90
