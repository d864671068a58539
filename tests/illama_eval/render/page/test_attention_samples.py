from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from illama_eval.render.models import load_models
from illama_eval.render.page.attention_samples import LEVELS, SIDE, samples_of


@pytest.fixture
def shown(run_of, write):
    """Return a function that gives the sample pictures of a page."""
    models = load_models([write(run_of(layers=1, heads=1, tokens=5))])

    def show(stored):
        (model,) = models.models
        return samples_of(model, models.run, stored)

    return show


def opened(address):
    kind, data = address.removeprefix("data:image/").split(";base64,")
    return kind, Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_small_image_is_kept_exactly_and_a_large_one_becomes_small(shown, samples):
    kind, picture = opened(shown(samples).samples[0].picture)
    assert kind == "png"
    assert np.array_equal(np.asarray(picture.convert("RGB")), samples.images[0])
    large = replace(samples, images=samples.images.repeat(7, 1).repeat(5, 2))
    kind, picture = opened(shown(large).samples[0].picture)
    assert (kind, max(picture.size)) == ("jpeg", SIDE)


def test_a_map_is_a_pixel_per_patch_in_sixteen_steps(shown, samples):
    found = shown(samples)
    assert (found.layers, len(found.samples[0].maps)) == (2, 2)
    _, picture = opened(found.samples[1].maps[0])
    steps = samples.attention[1, 0].astype(int) * LEVELS // 256
    assert np.array_equal(np.asarray(picture), steps)


def test_right_and_wrong_answers_are_marked(shown, samples):
    right, wrong = (each.classes for each in shown(samples).samples)
    assert right == "class 3 \N{CHECK MARK}"
    assert wrong == "class 5 \N{BALLOT X} class 0"


def test_without_samples_there_is_nothing_to_show(shown, samples):
    assert shown(None) is None
    assert shown(replace(samples, ids=[])) is None
