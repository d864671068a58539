"""Model configuration: the choices, the published sizes, and the steps from ViT to iLLaMA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

Mlp = Literal["gelu", "swiglu"]
Norm = Literal["layer", "rms"]
Masking = Literal["none", "additive", "modified", "multiplicative"]
ClassToken = Literal["first", "last"]
Position = Literal["learned", "rotary", "both"]
Dtype = Literal["fp32", "bf16", "fp16"]
"""Precision in which a model is run, and multiplies in training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The architecture of one model; the defaults are the released iLLaMA-T/16 (paper, Table 11).

    Raises:
        ValueError: a value is unknown, a size does not divide, or two choices exclude each other.
    """

    image_size: int = 224
    """Side of the square input in pixels."""
    patch_size: int = 16
    """Side of a patch in pixels; divides `image_size`."""
    width: int = 192
    """Channels of a token (the paper's embedding dimension D)."""
    depth: int = 12
    """Number of blocks."""
    heads: int = 3
    """Attention heads; divides `width`."""
    classes: int = 1000
    """Outputs of the head."""
    mlp: Mlp = "swiglu"
    """Feed-forward: GELU with biases (ViT) or SwiGLU without (paper, section 3.1)."""
    norm: Norm = "rms"
    """LayerNorm (ViT) or RMSNorm (paper, section 3.2), both with epsilon 1e-6."""
    masking: Masking = "multiplicative"
    """`none`; `additive` (-inf before softmax); `modified` (additive, but row 0 sees all tokens);
    `multiplicative` (after softmax, not renormalised: the released model; paper, equation 2)."""
    class_token: ClassToken = "last"
    """Before the image tokens (ViT) or after them (paper, section 3.3, PS[cls])."""
    position: Position = "both"
    """Learned table, rotary embedding of queries and keys, or both (paper, section 3.4)."""

    def __post_init__(self) -> None:
        self._check_values()
        if self.image_size % self.patch_size:
            raise ValueError(
                f"config: image_size {self.image_size} is not a multiple of "
                f"patch_size {self.patch_size}"
            )
        if self.width % self.heads:
            raise ValueError(f"config: width {self.width} does not divide into {self.heads} heads")
        if self.position != "learned" and self.head_width % 2:
            raise ValueError(f"config: rotary needs an even head width, not {self.head_width}")
        if self.masking == "modified" and self.class_token == "last":
            raise ValueError("config: the modified mask needs class_token='first', its row 0")

    def _check_values(self) -> None:
        """Raise unless every choice is known and every count is a positive whole number."""
        for field, choices in _CHOICES.items():
            if getattr(self, field) not in choices:
                known = ", ".join(choices)
                raise ValueError(f"config: {field}={getattr(self, field)!r} is not one of {known}")
        for field in _COUNTS:
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"config: {field}={value!r} must be a positive whole number")

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Length of the sequence: all patches and the class token."""
        return self.grid**2 + 1

    @property
    def class_index(self) -> int:
        """Index of the class token in the sequence."""
        return 0 if self.class_token == "first" else self.tokens - 1

    @property
    def image_tokens(self) -> slice:
        """Positions of the patches in the sequence."""
        return slice(1, self.tokens) if self.class_index == 0 else slice(0, self.tokens - 1)

    @property
    def hidden(self) -> int:
        """Width of the feed-forward: 4D for GELU; int(8D/3) rounded up to 256 for SwiGLU."""
        if self.mlp == "gelu":
            return 4 * self.width
        return -(-int(2 * 4 * self.width / 3) // 256) * 256

    @classmethod
    def at(cls, step: str, size: str, **changes: Any) -> Config:
        """Return the config of a road step (key of STEPS) at a published size (key of SIZES).

        Raises:
            ValueError: the step, the size or a changed field is unknown.
        """
        for name, table in ((step, STEPS), (size, SIZES)):
            if name not in table:
                raise ValueError(f"config: {name!r} is not one of {', '.join(table)}")
        return cls.from_dict({**SIZES[size], **_fold(step), **changes})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Return the config with these fields, defaults elsewhere.

        Raises:
            ValueError: a field is unknown or its value is not allowed.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"config: unknown field {unknown[0]!r}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a plain dictionary, in declaration order."""
        return asdict(self)

    def with_image_size(self, image_size: int) -> Config:
        """Return the same architecture for another input size in pixels."""
        return replace(self, image_size=image_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step of the road: what it changes, and the step it starts from (None: from the sizes)."""

    after: str | None
    changes: Mapping[str, Any]


SIZES: Mapping[str, Mapping[str, int]] = {
    "tiny": {"width": 192, "depth": 12, "heads": 3},
    "small": {"width": 384, "depth": 12, "heads": 6},
    "base": {"width": 768, "depth": 12, "heads": 12},
    "large": {"width": 1024, "depth": 24, "heads": 16},
    "nano": {"width": 96, "depth": 6, "heads": 3, "image_size": 32, "patch_size": 4, "classes": 10},
}
"""The published sizes (paper, Table 11), and nano, a laptop size for 32-pixel images."""

STEPS: Mapping[str, Step] = {
    "vit": Step(
        after=None,
        changes={
            "mlp": "gelu",
            "norm": "layer",
            "masking": "none",
            "class_token": "first",
            "position": "learned",
        },
    ),
    "swiglu": Step(after="vit", changes={"mlp": "swiglu"}),
    "rmsnorm": Step(after="swiglu", changes={"norm": "rms"}),
    "class-first-causal": Step(after="rmsnorm", changes={"masking": "additive"}),
    "post-sequence-class": Step(after="class-first-causal", changes={"class_token": "last"}),
    "modified-mask": Step(after="class-first-causal", changes={"masking": "modified"}),
    "rope-only": Step(after="post-sequence-class", changes={"position": "rotary"}),
    "rope-and-learned": Step(after="rope-only", changes={"position": "both"}),
    "soft-mask": Step(after="rope-and-learned", changes={"masking": "multiplicative"}),
    "class-first-multiplicative": Step(
        after="class-first-causal", changes={"masking": "multiplicative"}
    ),
}
"""The road from ViT to iLLaMA (paper, Table 17); beside it, class-first multiplicative."""

_CHOICES: Mapping[str, tuple[str, ...]] = {
    name: get_args(hint) for name, hint in get_type_hints(Config).items() if get_args(hint)
}
_COUNTS = tuple(name for name, hint in get_type_hints(Config).items() if hint is int)


def _fold(step: str) -> dict[str, Any]:
    """Return all changes on the way from the start of the road to this step."""
    this = STEPS[step]
    before = {} if this.after is None else _fold(this.after)
    return {**before, **this.changes}
