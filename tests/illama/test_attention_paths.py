"""Fast ways of computing attention are checked on the device before they are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention import flex_attention

from illama.attention_paths import HeadShape, fused_agrees, split_fault
from illama.config import Config
from illama.masking import MASKINGS, MultiplicativeMask
from illama.model import Model
from illama.upernet import Segmenter, SegmenterConfig

SHAPE = HeadShape(33, 16, torch.float32, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _checked_anew() -> Iterator[None]:
    yield
    fused_agrees.cache_clear()
    split_fault.cache_clear()


@pytest.mark.parametrize("masking", MASKINGS)
def test_fused_attention_agrees_on_this_machine(masking: str) -> None:
    assert fused_agrees(masking, torch.device("cpu"))


def test_a_fused_product_that_comes_out_wrong_is_not_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = lambda self, query, key, value, soft_mask: value  # noqa: E731 - stands in for a method
    monkeypatch.setattr(MASKINGS["additive"], "fuse", wrong)
    fused_agrees.cache_clear()
    model = Model(Config.at("class-first-causal", "nano"))
    assert model.resolve_path(torch.device("cpu")) == "explicit"


@pytest.fixture
def _not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = torch.compile  # FlexAttention's eager form compiles a part of itself

    def only_inside(function: Any, **options: Any) -> Any:
        return inside(function, **options) if options else function

    monkeypatch.setattr(torch, "compile", only_inside)


@pytest.mark.usefixtures("_not_compiled")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_flex_attention_is_used_where_it_runs_and_comes_out_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "CPU" in split_fault(SHAPE), "a CPU has no gradient of it"
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    split_fault.cache_clear()
    assert split_fault(SHAPE) == ""
    split_fault.cache_clear()
    wrong = lambda query, key, value, *_: query + key + value  # noqa: E731 - another function
    monkeypatch.setattr("illama.attention_paths.split_attention", wrong)
    assert "errs by" in split_fault(SHAPE)


@pytest.mark.parametrize("fault", ["", "no compiler"])
def test_a_model_says_why_it_is_compiled_without_flex_attention(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    shapes: list[HeadShape] = []
    monkeypatch.setattr("illama.model.split_fault", lambda shape: shapes.append(shape) or fault)
    config = Config.at("soft-mask", "nano")
    model = Model(config)
    weight = SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.float32)
    monkeypatch.setattr(Model, "class_token", weight, raising=False)
    note = model.prepare_to_compile()
    assert shapes == [
        HeadShape(config.tokens, config.head_width, torch.float32, torch.device("cuda", 0))
    ]
    assert isinstance(model.masking, MultiplicativeMask)
    assert (model.masking.split is None) == bool(fault)
    assert (fault in note) if fault else note == ""


def test_on_a_cpu_there_is_nothing_to_prepare() -> None:
    assert Model(Config.at("soft-mask", "nano")).prepare_to_compile() == ""


def test_a_segmenter_prepares_its_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SegmenterConfig(backbone=Config.at("soft-mask", "nano"), classes=3)
    segmenter, asked = Segmenter(config), []
    monkeypatch.setattr(Model, "prepare_to_compile", lambda _, dtype: asked.append(dtype) or "why")
    assert segmenter.prepare_to_compile(torch.bfloat16) == "why"
    assert asked == [torch.bfloat16]
