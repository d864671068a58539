"""Lens: the last block is the model's own answer; neighbours are those of a plain loop."""

from __future__ import annotations

import math

import pytest
import torch

from illama.observation import LayerSeen, OutputSeen
from illama_eval.studies.lens import Lens
from illama_eval.study import accumulate

IMAGES = 40


@pytest.fixture(name="find")
def fixture_find(make_batch):
    """A function that runs the study on states [image, token, channel] and logits of one block."""

    def find(tokens, lens, study=None, sizes=(IMAGES,)):
        study, total, first = study or Lens(neighbours=3), {}, 0
        labels = torch.arange(IMAGES) % 4
        for size in sizes:
            chosen = range(first, first + size)
            batch = make_batch(labels, chosen)
            length = tokens.shape[1]
            seen = LayerSeen(
                index=1,
                open=torch.ones(length, length).bool(),
                class_index=length - 1,
                image_tokens=slice(0, length - 1),
                tokens=tokens[chosen],
                lens=lens[chosen],
                batch=batch,
            )
            accumulate(total, study.measure(seen))
            accumulate(total, study.measure(OutputSeen(batch=batch)))
            first += size
        return {(r.metric, *r.at.values()): r for r in study.summarize(total).rows}

    return find


def draw():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(IMAGES, 5, 6, generator=generator),
        torch.randn(IMAGES, 2, 4, generator=generator),
    )


def test_the_head_is_read_off_class_token_and_patches(find):
    tokens, lens = draw()
    found = find(tokens, lens)
    labels = torch.arange(IMAGES) % 4
    for place, readout in enumerate(("class", "patches")):
        right = (lens[:, place].argmax(1) == labels).double().mean()
        assert found[f"head_{readout}", 1].value == pytest.approx(float(right))
        assert found[(f"head_{readout}",)].value == found[f"head_{readout}", 1].value


def test_neighbours_vote_as_in_a_plain_loop_and_are_never_asked(find, make_batch):
    tokens, lens = draw()
    states, labels = tokens[:, -1].double(), (torch.arange(IMAGES) % 4).tolist()
    unit = states / states.norm(dim=1, keepdim=True)
    ranked = make_batch(torch.arange(IMAGES) % 4, range(IMAGES)).order.argsort().tolist()
    right = 0
    for image in ranked[::2]:
        alike = sorted((float(unit[image] @ unit[j]), labels[j]) for j in ranked[1::2])[::-1]
        votes = [0.0] * 4
        for cosine, label in alike[:3]:
            votes[label] += math.exp(cosine / 0.07)
        right += votes.index(max(votes)) == labels[image]
    found = find(tokens, lens)["knn_class", 1]
    assert found.value == pytest.approx(right / (IMAGES / 2))
    assert found.images == IMAGES / 2


def test_batches_do_not_change_the_rows(find):
    whole, parts = find(*draw()), find(*draw(), sizes=(1, 30, 9))
    assert {key: row.value for key, row in whole.items()} == {
        key: pytest.approx(row.value) for key, row in parts.items()
    }


def test_few_images_have_no_neighbours(find):
    found = find(*draw(), Lens(neighbours=IMAGES // 2 + 1))
    assert found[("knn_class",)].value is None
    assert "fewer images" in found[("knn_class",)].reason


def test_numbers_that_are_not_positive_are_refused():
    with pytest.raises(ValueError, match="positive"):
        Lens(bank=0)


def test_the_last_block_is_the_models_own_answer():
    from illama.config import Config
    from illama.model import Model

    torch.manual_seed(0)
    model = Model(Config(image_size=16, patch_size=4, width=16, depth=2, heads=2, classes=3)).eval()
    with torch.no_grad():
        *_, last, output = model.observe(torch.randn(2, 3, 16, 16), {"lens", "logits"})
    assert torch.allclose(last.lens[:, 0], output.logits, atol=1e-6)
