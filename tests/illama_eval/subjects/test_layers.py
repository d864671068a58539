from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from illama_eval.subjects.layers import AttentionError, draw_trial_images, find_layers


class Multihead(nn.Module):
    """torch's own attention module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.inner(tokens, tokens, tokens, need_weights=False)[0]


def windowed(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    parts = [
        each[:, :, 1:].unflatten(2, (4, 4)).transpose(1, 2).flatten(0, 1)
        for each in (query, key, value)
    ]
    seen = functional.scaled_dot_product_attention(*parts)
    seen = seen.unflatten(0, (-1, 4)).transpose(1, 2).flatten(2, 3)
    return torch.cat((value[:, :, :1], seen), dim=2)


def pooled(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(query, key[:, :, ::2], value[:, :, ::2])


def of_channels(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weights = (query.transpose(-2, -1) @ key).softmax(-1)
    return (weights @ value.transpose(-2, -1)).transpose(-2, -1)


def twice(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    seen = functional.scaled_dot_product_attention(query, key, value)
    return functional.scaled_dot_product_attention(query, key, seen)


def difference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.transpose(-2, -1)
    return (scores.softmax(-1) - 0.5 * (2 * scores).softmax(-1)) @ value


def reversed_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value).flip(2)


def unused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return 0 * functional.scaled_dot_product_attention(query, key, value) + value


def find(model: nn.Module) -> object:
    return find_layers(model, model, draw_trial_images(32))


@pytest.mark.parametrize("kind", ["fused", "eager", "causal", Multihead])
def test_layers_are_found_by_what_they_compute(
    transformer: Callable[..., nn.Module], kind: object
) -> None:
    layers = find(transformer(kind))
    assert layers.blocks == ("blocks.0", "blocks.1", "blocks.2")
    assert (layers.heads, layers.tokens) == (2, 17)
    assert layers.notes == ("attention of 3 layers is seen; their outputs are rebuilt from it",)


@pytest.mark.parametrize(
    ("prefix", "named", "class_index"),
    [(1, True, 0), (5, True, 0), (4, False, None), (0, False, None)],
)
def test_image_tokens_are_told_from_class_and_registers(
    transformer: Callable[..., nn.Module], prefix: int, named: bool, class_index: int | None
) -> None:
    layers = find(transformer(prefix=prefix, named=named))
    assert layers.class_index == class_index
    assert layers.image_tokens == slice(prefix, prefix + 16)


@pytest.mark.parametrize(
    ("product", "says"),
    [
        (windowed, "blocks.0.attention: attends within windows of 4 tokens"),
        (pooled, "blocks.0.attention: attends from 17 queries to 9 keys"),
        (of_channels, "blocks.0.attention: its map of 8 x 8 is not one of its tokens"),
        (twice, "blocks.0.attention: computes 2 attention maps in one call"),
        (difference, "blocks.0.attention: its map is mixed from several softmaxes"),
        (reversed_rows, "blocks.0.attention: a row of its map does not decide one token"),
        (unused, "blocks.0.attention: a row of its map does not decide one token"),
        (lambda query, key, value: value, "no module multiplies a softmax"),
    ],
)
def test_what_is_not_attention_between_all_tokens_is_refused_by_name(
    transformer: Callable[..., nn.Module], product: object, says: str
) -> None:
    with pytest.raises(AttentionError) as refusal:
        find(transformer(product))
    assert says in str(refusal.value)


def test_a_mask_that_differs_between_images_is_refused(
    transformer: Callable[..., nn.Module],
) -> None:
    def padded(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mask = torch.ones(len(query), 1, 17, 17, dtype=torch.bool)
        mask[1, :, :, -1] = False
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    with pytest.raises(AttentionError, match="its mask differs between images or heads"):
        find(transformer(padded))
