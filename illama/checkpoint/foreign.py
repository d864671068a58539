"""Models of other families, recognised by the names of their weights, with what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

TIMM = "measure it as --model timm:NAME --weights FILE"
HUGGING_FACE = "measure its folder, with its config.json, as --model hf:FOLDER"
WRAP = "measure it in Python with illama_eval.wrap"


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A family of models that are not ours."""

    name: str
    marks: tuple[str, ...]
    """Patterns; each is found in the name of some weight."""
    remedy: str | Callable[[Collection[str]], str] = TIMM


def recognise_model(names: Collection[str]) -> str | None:
    """Return what a model of another family is and what to do, or None where it may be ours."""
    for family in FAMILIES:
        if all(any(re.search(mark, name) for name in names) for mark in family.marks):
            remedy = family.remedy if isinstance(family.remedy, str) else family.remedy(names)
            return f"is {family.name}, not an iLLaMA, ViT or DeiT of timm's names; {remedy}"
    return None


RESNETS: Mapping[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
"""Blocks of each stage, and whether they are bottlenecks of three convolutions -> timm's name."""


def _as_resnet(names: Collection[str]) -> str:
    """Return the option that runs this ResNet."""
    blocks = {
        m[0] for name in names if (m := re.search(r"layer\d+\.\d+(?=\.conv1\.weight$)", name))
    }
    stages = tuple(sum(f"layer{stage}." in block for block in blocks) for stage in range(1, 5))
    deep = any(re.search(r"layer1\.0\.conv3\.weight$", name) for name in names)
    return f"measure it as --model timm:{RESNETS.get((stages, deep), 'NAME')} --weights FILE"


FAMILIES: tuple[Foreign, ...] = (
    Foreign(
        name="Hugging Face's DINOv2",
        marks=(r"(^|\.)embeddings\.cls_token$", r"layer\.0\.layer_scale1\.lambda1$"),
        remedy=HUGGING_FACE,
    ),
    Foreign(
        name="Hugging Face's CLIP or SigLIP",
        marks=(r"(^|\.)vision_model\.embeddings\.",),
        remedy=HUGGING_FACE,
    ),
    Foreign(
        name="a vision transformer of Hugging Face",
        marks=(r"(^|\.)embeddings\.(cls_token|patch_embeddings\.)",),
        remedy=HUGGING_FACE,
    ),
    Foreign(
        name="CLIP or the image tower of one",
        marks=(r"(^|\.)visual\.(class_embedding|conv1\.|trunk\.|transformer\.)",),
    ),
    Foreign(
        name="torchvision's ViT",
        marks=(r"(^|\.)conv_proj\.weight$", r"encoder\.layers\.encoder_layer_0\."),
        remedy=WRAP,
    ),
    Foreign(
        name="torchvision's ConvNeXt", marks=(r"(^|\.)features\.1\.0\.layer_scale$",), remedy=WRAP
    ),
    Foreign(
        name="a ConvNeXt", marks=(r"(^|\.)stages\.0\.(blocks\.)?0\.(conv_dw|dwconv)\.weight$",)
    ),
    Foreign(
        name="a ResNet",
        marks=(r"(^|\.)layer1\.0\.conv1\.weight$", r"(^|\.)layer4\.0\.conv1\.weight$"),
        remedy=_as_resnet,
    ),
    Foreign(
        name="a Swin transformer",
        marks=(r"(^|\.)layers\.0\.blocks\.0\.attn\.relative_position_bias_table$",),
    ),
    Foreign(name="an EfficientNet or MobileNet", marks=(r"(^|\.)_?conv_stem\.weight$",)),
    Foreign(
        name="MAE's pretraining, with a decoder and no head",
        marks=(r"(^|\.)decoder_blocks\.0\.",),
        remedy="take its fine-tuned weights, or the encoder's alone",
    ),
    Foreign(
        name="an EVA or another transformer with separate queries, keys and values",
        marks=(r"(^|\.)blocks\.0\.attn\.(q_proj|q)\.weight$",),
    ),
)
"""In the order in which they are tried."""
