"""Causality: models opened on purpose are found, causal ones are not, and the known answers."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from illama.config import Config
from illama.distributed import World
from illama.masking import AdditiveMask
from illama.model import Model
from illama.sources.source import make_source
from illama.transforms import evaluation_transform
from illama_eval.run.evaluate import evaluate
from illama_eval.run.job import Job, Options
from illama_eval.run.loop import observe_source
from illama_eval.studies.causality import Causality
from illama_eval.study import accumulate
from illama_eval.subjects.checkpoint import ModelSubject, open_checkpoint

SIDE = 16
PATCHES = 16


class OneEdge(AdditiveMask):
    """The additive mask with one key opened to one query, in one head."""

    def __init__(self, tokens, head, query, key):
        super().__init__(tokens)
        self.edge = head, query, key

    def attention_weights(self, scores, soft_mask, rows):
        head, query, key = self.edge
        opened = (scores + self.bias.type_as(scores)).clone()
        opened[:, head, query, key] = scores[:, head, query, key]
        return opened.softmax(-1)


def give_mask(block, masking):
    """Let a block see with a mask of its own."""
    plain = block.forward_with_attention
    block.forward_with_attention = lambda tokens, _, *others: plain(tokens, masking, *others)


@pytest.fixture(name="images", scope="module")
def fixture_images():
    return of_pixels(np.random.default_rng(0).integers(0, 256, (24, SIDE, SIDE, 3), dtype=np.uint8))


def subject(masking="additive", seed=0, dtype="fp32", scale=6.0, **changes):
    torch.manual_seed(seed)
    sizes = {"image_size": SIDE, "patch_size": 4, "width": 16, "depth": 3, "heads": 2, "classes": 3}
    config = Config(**(sizes | changes), masking=masking)
    model = Model(config, path="explicit").eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(scale)
    model = model.to(torch.bfloat16 if dtype == "bf16" else torch.float32)
    transform = evaluation_transform(SIDE)
    return ModelSubject(name="tiny", model=model, transform=transform, dtype=dtype)


def judged(one, images, size=24, **given):
    run = evaluate(one, images, [Causality(**given)], options=Options(batch_size=size))
    (verdict,) = run.verdicts
    return run, verdict


def value(run, metric, **at):
    (only,) = [row.value for row in run.rows if row.metric == metric and dict(row.at) == at]
    return only


def test_a_strictly_causal_model_does_not_change_at_all(images):
    run, verdict = judged(subject(), images)
    assert verdict.verdict == "causal"
    assert value(run, "kept_change") == value(run, "later_edges") == 0
    assert value(run, "leaking_images") == 0
    assert value(run, "class_change") > 0.01


def test_the_released_mask_leaks_through_the_denominator_from_the_first_block(images):
    run, verdict = judged(subject("multiplicative"), images)
    assert verdict.verdict == "leaks through the denominator from block 1"
    assert value(run, "later_edges") == 0
    assert value(run, "kept_change", layer=1) > 1e-4
    assert value(run, "leaking_images") == 1


def test_a_model_without_a_mask_is_bidirectional(images):
    run, verdict = judged(subject("none"), images)
    assert verdict.verdict == "bidirectional"
    assert value(run, "later_edges") == 1


def test_a_class_token_that_sees_all_from_the_front_leaks_from_the_first_block(images):
    _, verdict = judged(subject("modified", class_token="first"), images)
    assert verdict.verdict == "leaks from block 1"
    assert "head 1, token 1 to token 2 of 17" in verdict.reason


def of_pixels(pixels):
    ids = tuple(f"noise/{i}" for i in range(len(pixels)))
    return make_source(
        name="noise", split="test", names=ids, labels=None, contents=ids, read=pixels.__getitem__
    )


@pytest.mark.parametrize("patch_size", [4, 16])
def test_images_that_a_replacement_leaves_as_they_are_show_nothing(patch_size, images):
    leaky, alike = subject("multiplicative", patch_size=patch_size), np.zeros((6, SIDE, SIDE, 3))
    source = images if patch_size == SIDE else of_pixels(alike.astype(np.uint8))
    run, verdict = judged(leaky, source)
    assert verdict.verdict == "undecided"
    assert value(run, "kept_change") is value(run, "leaking_images") is None


def test_pairs_of_equal_images_are_left_out(images):
    pixels = np.stack([images.read(i) for i in (0, 0, 0, 1, 1, 2)])
    run, verdict = judged(subject("multiplicative"), of_pixels(pixels))
    assert verdict.verdict == "leaks through the denominator from block 1"
    assert value(run, "leaking_images") == 1
    (row,) = [row for row in run.rows if row.metric == "leaking_images" and not row.at]
    assert row.images < len(pixels)


def test_without_maps_the_verdict_rests_on_states_alone(images, monkeypatch):
    monkeypatch.setattr(Causality, "wants", frozenset({"tokens", "replaced"}))
    run, verdict = judged(subject("multiplicative", scale=1.0), images)
    assert verdict.verdict == "leaks from block 1"
    assert value(run, "later_edges") is None
    found = Causality().judge(torch.tensor([0.31, 0.88]), torch.tensor([9.0, 9.0]), None)
    assert found.verdict == "bidirectional"
    assert judged(subject(), images)[1].verdict == "causal"


def test_the_rows_do_not_depend_on_the_batches(images):
    whole, _ = judged(subject("multiplicative"), images)
    for size in (1, 5):
        split, _ = judged(subject("multiplicative"), images, size)
        for one, other in zip(whole.rows, split.rows, strict=True):
            assert (one.metric, one.at, one.images) == (other.metric, other.at, other.images)
            assert one.value == pytest.approx(other.value, rel=1e-4, abs=1e-6)


def test_the_share_that_stays_is_reported_on_its_own_images(images):
    run, _ = judged(subject("multiplicative"), images)
    shares = [
        row
        for row in run.rows
        if row.metric == "kept_change" and row.at.get("layer") == 2 and "kept" in row.at
    ]
    assert sum(row.images for row in shares) == 24
    assert {row.at["kept"] for row in shares} <= {"25 %", "50 %", "75 %"}


def test_one_image_alone_is_undecided(images):
    run, verdict = judged(subject("multiplicative"), images.limit(1, 0))
    assert verdict.verdict == "undecided"
    assert all(row.value is None and row.reason for row in run.rows)


def test_other_studies_see_no_changed_image(images):
    from illama_eval.studies.rank import Rank

    one = subject("multiplicative")
    alone = evaluate(one, images, [Rank()])
    beside = evaluate(one, images, [Rank(), Causality()])
    assert [row.value for row in alone.rows] == [
        row.value for row in beside.rows if row.study == "rank"
    ]


def found(number, dtype, images):
    """Return the block, head, query and key that are opened, and the verdicts before and after."""
    chosen = random.Random(number)
    block, head = chosen.randrange(3), chosen.randrange(2)
    query, key = sorted(chosen.sample(range(PATCHES), 2))
    one = subject(seed=number, dtype=dtype, scale=4.0)
    causal = verdict_of(one, images)
    masking = OneEdge(PATCHES + 1, head, query, key)
    give_mask(one.model.blocks[block], masking)
    return (block + 1, head + 1, query + 1, key + 1), causal, verdict_of(one, images)


def verdict_of(one, images):
    """Return the verdict without the rest of a run."""
    study, total = Causality(), {}
    job = Job((one,), images, (study,), Options(), World())
    for step in observe_source(
        (one,), images, study.wants, job.measure, batch_size=8, probes=job.probes
    ):
        for sums in step.results:
            accumulate(total, sums)
    (verdict,) = study.summarize(
        {key.removeprefix("0/causality/"): value for key, value in total.items()}
    ).verdicts
    return verdict


def mutants(numbers, dtype, images):
    """Return how many opened models are found with block and edge, and false alarms."""
    right = false = 0
    for number in numbers:
        (block, head, query, key), causal, verdict = found(number, dtype, images)
        edge = f"block {block}, head {head}, token {query} to token {key} of"
        right += verdict.verdict == f"leaks from block {block}" and edge in verdict.reason
        false += causal.verdict != "causal"
    return right, false


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_an_opened_edge_is_found_with_its_block_head_and_tokens(dtype, images):
    assert mutants(range(3), dtype, images.limit(3, 0)) == (3, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "models"), [("fp32", 500), ("bf16", 100)])
def test_all_opened_models_but_one_are_found_and_no_causal_one(dtype, models, images):
    right, false = mutants(range(models), dtype, images.limit(3, 0))
    print(f"{dtype}: {right} of {models} found, {false} false alarms")  # noqa: T201 - pytest -rP
    assert right >= models - 1
    assert false == 0


@pytest.mark.data
@pytest.mark.slow
def test_the_released_mask_is_not_causal_and_the_same_weights_under_the_additive_mask_are(
    shared, cifar10
):
    path, device = shared / "checkpoints" / "illama_cifar10_nano.pth", torch.device("cpu")
    run, verdict = judged(open_checkpoint(path, device=device), cifar10.limit(256, 0), 128)
    assert verdict.verdict == "leaks through the denominator from block 1"
    assert 0.034 < value(run, "kept_change", layer=1, kept="25 %") < 0.042
    assert 0.125 < value(run, "kept_change", layer=6, kept="25 %") < 0.15
    strict = open_checkpoint(path, device=device, masking="additive")
    run, verdict = judged(strict, cifar10.limit(60, 0), 60)
    assert verdict.verdict == "causal"
    assert value(run, "kept_change") == 0
