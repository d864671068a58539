from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from illama.observation import LayerSeen, OutputSeen
from illama.transforms import Transform
from illama_eval.subjects.network import NetworkSubject, open_network
from illama_eval.subjects.subject import SubjectError

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
TRANSFORM = Transform(image_size=32, resize="warp")
MAPS = {"used", "softmax", "previous", "tokens"}


def read(model: nn.Module, images: Tensor) -> OutputSeen:
    logits = model(images)
    return OutputSeen(logits=logits, features=logits[:, :2])


def as_subject(model: nn.Module, how: Callable[..., OutputSeen] = read) -> NetworkSubject:
    return open_network(model, how, name="it", transform=TRANSFORM, device=torch.device("cpu"))


@pytest.mark.parametrize("kind", ["fused", "eager", "causal"])
def test_maps_are_those_of_the_formula_and_logits_those_of_the_model(
    transformer: Callable[..., nn.Module], kind: str
) -> None:
    model = transformer(kind)
    *layers, output = as_subject(model).observe(IMAGES, {*MAPS, "logits"})
    tokens = torch.cat(
        (model.cls_token.expand(4, -1, -1), model.patches(IMAGES).flatten(2).mT), dim=1
    )
    for number, (layer, block) in enumerate(zip(layers, model.blocks, strict=True), start=1):
        query, key, _ = block.attention.qkv(block.norm(tokens)).unflatten(-1, (3, 2, 8)).unbind(2)
        scores = torch.einsum("iqhc,ikhc->ihqk", query, key) / 8**0.5
        tokens = block(tokens)
        torch.testing.assert_close(layer.softmax, scores.softmax(-1))
        if kind == "causal":
            scores = scores.masked_fill(torch.ones(17, 17).triu(1).bool(), -torch.inf)
        torch.testing.assert_close(layer.used, scores.softmax(-1))
        torch.testing.assert_close(layer.tokens, tokens)
        assert (layer.index, layer.class_index) == (number, 0)
        assert (layer.factor is None) == (kind == "causal")
        assert torch.equal(layer.open, scores[0, 0].isfinite())
    assert layers[0].previous is None
    assert torch.equal(layers[2].previous, layers[1].used)
    assert torch.equal(output.logits, model(IMAGES))


def test_at_most_two_layers_of_maps_are_alive(transformer: Callable[..., nn.Module]) -> None:
    alive: list[weakref.ref[Tensor]] = []
    for piece in as_subject(transformer()).observe(IMAGES, {"used", "previous"}):
        gc.collect()
        if isinstance(piece, LayerSeen):
            alive.append(weakref.ref(piece.used))
        assert sum(each() is not None for each in alive) <= 2


def test_a_model_observed_twice_at_a_time_keeps_its_passes_apart(
    transformer: Callable[..., nn.Module],
) -> None:
    subject = as_subject(transformer())
    alone = list(subject.observe(IMAGES, {"used"}))
    streams = [subject.observe(IMAGES, {"used"}), subject.observe(IMAGES.flip(0), {"used"})]
    together = list(zip(*streams, strict=True))
    for expected, (one, other) in zip(alone[:3], together, strict=False):
        assert torch.equal(one.used, expected.used)
        assert torch.equal(other.used.flip(0), expected.used)


def test_nothing_of_a_pass_stays_on_the_model(transformer: Callable[..., nn.Module]) -> None:
    model = transformer()
    stream = as_subject(model).observe(IMAGES, MAPS)
    next(stream)
    stream.close()
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_attention_shows_the_rest_and_says_why() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    subject = as_subject(model)
    assert subject.shows == {"logits", "features"}
    assert "no module multiplies a softmax" in subject.describe()["notes"][0]
    with pytest.raises(SubjectError, match=r"it: shows no used .attention is not seen: no module"):
        next(subject.observe(IMAGES, {"used"}))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (lambda model, images: OutputSeen(), "returns neither logits nor features"),
        (lambda model, images: OutputSeen(logits=images), "its logits have the shape"),
        (lambda model, images: model(images[:, :1]), "does not run on 32 x 32 pixels"),
    ],
)
def test_a_network_that_cannot_be_measured_is_refused_in_one_line(
    transformer: Callable[..., nn.Module], how: Callable[..., OutputSeen], says: str
) -> None:
    with pytest.raises(SubjectError, match=says) as refusal:
        as_subject(transformer(), how)
    assert len(str(refusal.value).splitlines()) == 1
