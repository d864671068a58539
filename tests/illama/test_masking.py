from __future__ import annotations

import pytest
import torch
from torch import Tensor

from illama import layers
from illama.layers import attend
from illama.masking import MASKINGS

TOKENS, HEAD = 9, 8


FORMS = [*((name, 0.0) for name in MASKINGS), ("multiplicative", 0.5), ("multiplicative", 1.0)]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def heads(*shape: int) -> Tensor:
    return torch.randn(2, 3, *(shape or (TOKENS, HEAD)))


def test_each_masking_sees_what_the_paper_says():
    lower = torch.ones(4, 4).tril().bool()
    modified = lower.clone()
    modified[0] = True
    expected = {"none": torch.ones(4, 4).bool(), "additive": lower, "modified": modified}
    for name, pattern in {**expected, "multiplicative": lower}.items():
        assert torch.equal(MASKINGS[name](4).open(0.0), pattern)
    assert MASKINGS["multiplicative"](4).open(0.1).all()


def test_additive_masks_renormalise_and_the_multiplicative_one_does_not():
    scores = heads(TOKENS, TOKENS)
    rows = {
        name: MASKINGS[name](TOKENS).attention_weights(scores.clone(), 0.0, slice(None)).sum(-1)
        for name in MASKINGS
    }
    for name in ("none", "additive", "modified"):
        torch.testing.assert_close(rows[name], torch.ones_like(rows[name]))
    assert (rows["multiplicative"][..., :-1] < 1).all()
    torch.testing.assert_close(rows["multiplicative"][..., -1], torch.ones(2, 3))


@pytest.mark.parametrize("soft_mask", [0.0, 0.25, 1.0])
def test_the_multiplicative_weights_are_softmax_times_the_factor(soft_mask):
    mask, scores = MASKINGS["multiplicative"](TOKENS), heads(TOKENS, TOKENS)
    factor = torch.full((TOKENS, TOKENS), soft_mask)
    factor[torch.ones(TOKENS, TOKENS).tril().bool()] = 1.0
    seen = mask.attention_weights(scores.clone(), soft_mask, slice(None))
    torch.testing.assert_close(mask.factor(soft_mask), factor)
    torch.testing.assert_close(seen, scores.softmax(-1) * factor)


@pytest.mark.parametrize("masking", ["none", "additive", "modified"])
def test_a_soft_mask_is_refused_where_it_is_not_defined(masking):
    mask, queries = MASKINGS[masking](TOKENS), heads()
    calls = (
        lambda: mask.attention_weights(heads(TOKENS, TOKENS), 0.5, slice(None)),
        lambda: mask.factor(0.5),
        lambda: mask.open(0.5),
        lambda: mask.fuse(queries, queries, queries, 0.5),
    )
    for call in calls:
        with pytest.raises(ValueError, match="multiplicative' only"):
            call()


@pytest.mark.parametrize("soft_mask", [-0.1, 1.5, float("nan")])
def test_a_soft_mask_that_is_no_share_is_refused(soft_mask):
    mask, queries = MASKINGS["multiplicative"](TOKENS), heads()
    calls = (
        lambda: mask.attention_weights(heads(TOKENS, TOKENS), soft_mask, slice(None)),
        lambda: mask.factor(soft_mask),
        lambda: mask.fuse(queries, queries, queries, soft_mask),
    )
    for call in calls:
        with pytest.raises(ValueError, match="not from 0"):
            call()


@pytest.mark.parametrize(("masking", "soft_mask"), FORMS)
def test_the_fused_call_gives_what_the_product_gives(masking, soft_mask):
    mask, (query, key, value) = MASKINGS[masking](TOKENS), (heads(), heads(), heads())
    fused = mask.fuse(query, key, value, soft_mask)
    torch.testing.assert_close(fused, attend(query, key, value, mask, soft_mask))


@pytest.mark.parametrize(("masking", "soft_mask"), FORMS)
def test_rows_in_chunks_give_what_the_whole_product_gives(masking, soft_mask, monkeypatch):
    mask, (query, key, value) = MASKINGS[masking](TOKENS), (heads(), heads(), heads())
    whole = attend(query, key, value, mask, soft_mask)
    rows = slice(3, 8)
    monkeypatch.setattr(layers, "CHUNKED_FROM", TOKENS)
    torch.testing.assert_close(attend(query, key, value, mask, soft_mask), whole)
    some = attend(query[:, :, rows], key, value, mask, soft_mask, rows)
    torch.testing.assert_close(some, whole[:, :, rows])


@pytest.mark.parametrize(("name", "soft_mask"), FORMS)
def test_the_form_says_what_the_mask_and_its_factor_are(name: str, soft_mask: float) -> None:
    masking, lower = MASKINGS[name](7), torch.ones(7, 7).tril()
    form, factor = masking.form(soft_mask), masking.factor(soft_mask)
    opened = masking.open(soft_mask)
    assert (form == "lower") == torch.equal(opened, lower.bool())
    assert (form == "full") == (factor is not None and bool((factor == 1).all()))
    if form == "lower" and factor is not None:
        assert torch.equal(factor, lower)
    if form == "soft":
        assert factor is not None
        assert opened.all()
