from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from illama.files import CheckpointError
from illama.observation import LayerSeen
from illama.transforms import Transform
from illama_eval.results import Run
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.network import NetworkSubject
from illama_eval.subjects.subject import SubjectError
from illama_eval.subjects.timm import open_timm
from illama_eval.subjects.timm_models import make, transform_of

Command = Callable[..., tuple[int, str, str]]
CPU = torch.device("cpu")
SETTINGS = {
    "input_size": (3, 64, 64),
    "crop_pct": 0.9,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
}


class Vit(nn.Module):
    """A plain ViT in timm's names, written out: 64 px, 16 px patches, 2 blocks, width 24."""

    def __init__(self, num_classes: int = 10, scaled: bool = False, activation: Any = None) -> None:
        super().__init__()
        self.num_classes, self.pretrained_cfg = num_classes, {"classifier": "head"}
        self.activation = activation or functional.gelu
        self.cls_token = nn.Parameter(torch.randn(1, 1, 24))
        self.pos_embed = nn.Parameter(torch.randn(1, 16 + (not scaled), 24))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, 24, 16, 16)
        self.blocks = nn.ModuleList(self._block(scaled) for _ in range(2))
        self.norm = nn.LayerNorm(24, eps=1e-6)
        self.head = nn.Linear(24, num_classes)

    def _block(self, scaled: bool) -> nn.Module:
        block = nn.Module()
        block.norm1, block.norm2 = nn.LayerNorm(24, eps=1e-6), nn.LayerNorm(24, eps=1e-6)
        block.attn, block.mlp = nn.Module(), nn.Module()
        block.attn.num_heads = 2
        block.attn.qkv, block.attn.proj = nn.Linear(24, 72), nn.Linear(24, 24)
        block.mlp.fc1, block.mlp.fc2 = nn.Linear(24, 96), nn.Linear(96, 24)
        if scaled:
            for name in ("ls1", "ls2"):
                setattr(block, name, nn.Module())
                getattr(block, name).gamma = nn.Parameter(torch.rand(24))
        return block

    def forward_features(self, images: Tensor) -> Tensor:
        tokens = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        token = self.cls_token.expand(len(images), -1, -1)
        if self.pos_embed.shape[1] == 16:
            tokens = torch.cat((token, tokens + self.pos_embed), dim=1)
        else:
            tokens = torch.cat((token, tokens), dim=1) + self.pos_embed
        for block in self.blocks:
            one = block.ls1.gamma if hasattr(block, "ls1") else 1
            two = block.ls2.gamma if hasattr(block, "ls2") else 1
            heads = block.attn.qkv(block.norm1(tokens)).unflatten(-1, (3, 2, 12))
            query, key, value = heads.permute(2, 0, 3, 1, 4)
            weights = (query @ key.transpose(-2, -1) / 12**0.5).softmax(-1)
            tokens = tokens + one * block.attn.proj((weights @ value).transpose(1, 2).flatten(2))
            hidden = self.activation(block.mlp.fc1(block.norm2(tokens)))
            tokens = tokens + two * block.mlp.fc2(hidden)
        return self.norm(tokens)

    def forward_head(self, tokens: Tensor, pre_logits: bool = False) -> Tensor:
        return tokens[:, 0] if pre_logits else self.head(tokens[:, 0])

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


class Convolutions(nn.Module):
    """A model without attention."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.num_classes, self.pretrained_cfg = num_classes, {"classifier": "head.fc"}
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.head = nn.ModuleDict({"fc": nn.Linear(8, num_classes)})

    def forward_features(self, images: Tensor) -> Tensor:
        return self.stem(images)

    def forward_head(self, seen: Tensor, pre_logits: bool = False) -> Tensor:
        features = seen.mean((2, 3))
        return features if pre_logits else self.head["fc"](features)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


def checkpoint_filter_fn(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Translate the names that this module's models had elsewhere, as timm's modules do."""
    if "stretched" in state:
        return {**model.state_dict(), "stem.weight": torch.zeros(8, 3, 8, 8)}
    return {name.replace("downsample.", "stem."): state[name] for name in state}


def _never(*_: object, **__: object) -> None:
    raise ConnectionError("no route\nto anywhere")


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Stand in for timm with four small models, so that no test needs the real one."""
    known = {
        "vit": Vit,
        "deit3": lambda **given: Vit(scaled=True, **given),
        "quick": lambda **given: Vit(activation=lambda x: x * torch.sigmoid(1.702 * x), **given),
        "convolutions": Convolutions,
    }

    def create_model(name: str, pretrained: bool = False, **given: Any) -> nn.Module:
        return _never() if pretrained else known[name](**given)

    fake = ModuleType("timm")
    fake.__version__ = "0"
    fake.list_models = lambda: sorted(known)
    fake.create_model = create_model
    fake.data = SimpleNamespace(resolve_model_data_config=lambda _: SETTINGS)
    monkeypatch.setitem(sys.modules, "timm", fake)
    return fake


def test_a_vit_runs_as_our_model_with_all_that_it_shows(timm: ModuleType) -> None:
    subject = open_timm("timm:vit", "random", device=CPU)
    assert isinstance(subject, ModelSubject)
    images = torch.randn(2, 3, 64, 64)
    layers = [p for p in subject.observe(images, {"used"}) if isinstance(p, LayerSeen)]
    assert [layer.used.shape for layer in layers] == [(2, 2, 17, 17)] * 2
    assert "logits equal timm's" in subject.describe()["notes"][0]
    assert subject.transform.describe()["short_side"] == 71
    assert subject.transform.mean == (0.5, 0.5, 0.5)


def test_layer_scale_and_a_class_token_without_position_change_nothing(timm: ModuleType) -> None:
    subject = open_timm("timm:deit3", "random", device=CPU)
    theirs = make("timm:deit3", "random").model
    images = torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(subject.model(images), theirs(images), rtol=1e-5, atol=1e-5)
    assert "layer scale is folded into the projections" in subject.describe()["notes"]


def test_another_function_under_a_vits_names_is_found_out(timm: ModuleType) -> None:
    subject = open_timm("timm:quick", "random", device=CPU)
    assert isinstance(subject, NetworkSubject)
    first, second = subject.describe()["notes"]
    assert "as a plain ViT: its logits would be" in first
    assert "the model: computes 2 attention maps in one call" in second


def test_positions_are_resized_only_when_asked(timm: ModuleType) -> None:
    subject = open_timm("timm:vit", "random", device=CPU, image_size=96)
    assert subject.model.config.tokens == 37
    assert "positions resized from 64 to 96 pixels" in subject.describe()["notes"]
    with pytest.raises(SubjectError, match=r"timm:vit: cannot take 65 x 65 pixels \(.*patch_size"):
        open_timm("timm:vit", "random", device=CPU, image_size=65)


def test_a_file_is_read_strictly_and_tells_the_number_of_classes(
    timm: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "seven.pth"
    torch.save({"model": Convolutions(num_classes=7).state_dict()}, path)
    subject = open_timm("timm:convolutions", str(path), device=CPU)
    assert subject.classes == 7
    assert subject.describe()["file"] == "seven.pth"
    state = Convolutions().state_dict()
    for broken, words in (
        ({"stem.weight": state["stem.weight"]}, r"missing 3 \(stem.bias"),
        ({**state, "more": torch.zeros(1)}, r"unexpected 1 \(more"),
        ({**state, "stem.bias": torch.zeros(3)}, r"misshapen 1 \(stem.bias"),
        ({**state, "stem.bias": torch.full((8,), torch.nan)}, r"not finite 1 \(stem.bias"),
        ({**state, "stem.bias": torch.zeros(8).int()}, r"not floating point 1 \(stem.bias"),
        ({**state, "stretched": torch.zeros(1)}, "another image size"),
    ):
        torch.save(broken, path)
        with pytest.raises(CheckpointError, match=words):
            open_timm("timm:convolutions", str(path), device=CPU)


def test_names_from_elsewhere_are_translated_by_timm(timm: ModuleType, tmp_path: Path) -> None:
    state = Convolutions().state_dict()
    renamed = {name.replace("stem.", "downsample."): state[name] for name in state}
    torch.save(renamed, tmp_path / "theirs.pth")
    subject = open_timm("timm:convolutions", str(tmp_path / "theirs.pth"), device=CPU)
    assert torch.equal(subject.model.state_dict()["stem.weight"], state["stem.weight"])
    assert subject.describe()["names"] == "translated by timm"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model", "convolutions"], "give timm:NAME"),
        (["--model", "timm:convo"], "did you mean convolutions?"),
        (["--model", "timm:convolutions"], "published weights cannot be loaded (no route)"),
        (["--model", "timm:vit", "--weights", "none.pth"], "does not exist"),
        (["--model", "timm:vit", "--model", "timm:vit", "--weights", "random"], "one --weights"),
        (["--model", "timm:vit", "--weights", "random", "--heads", 2], "--heads is for"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(
    command: Command, timm: ModuleType, small_images: Path, words: list[str], says: str
) -> None:
    code, out, err = command("accuracy", *words, "--data", small_images)
    assert (code, out) == (3, "")
    assert says in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (ModuleNotFoundError("no", name="torchvision"), "pip install 'illama[timm]'"),
        (RuntimeError("operator nms\nat 0x0"), "cannot be imported (operator nms); install"),
    ],
)
def test_a_timm_that_is_missing_or_broken_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, says: str
) -> None:
    def broken(name: str) -> ModuleType:
        raise problem

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(SubjectError) as refusal:
        open_timm("timm:vit", "random", device=CPU)
    assert says in str(refusal.value)
    assert refusal.value.exit_code == 3


def test_checkpoints_and_other_models_share_a_run_and_show_what_they_can(
    command: Command,
    without_figures: None,
    timm: ModuleType,
    golden_checkpoint: Path,
    small_images: Path,
    tmp_path: Path,
) -> None:
    others = ["--model", "timm:vit", "--model", "timm:convolutions"]
    others += ["--weights", "random", "--weights", "random"]
    code, _, err = command(
        "run", golden_checkpoint, *others, "--data", small_images, "--limit", 16, "--out", "it"
    )
    assert code == 0, err
    assert "convolutions: rank needs attention" in err.replace("\n", " ")
    assert "left out of it: rank, collapse" in err.replace("\n", " ")
    rows = Run.load(tmp_path / "it").rows
    studies = {
        name: {row.study for row in rows if row.subject == name}
        for name in ("official_micro", "vit", "convolutions")
    }
    measured = {"accuracy", "calibration", "rank", "collapse", "causality"}
    assert studies["official_micro"] == measured
    assert studies["vit"] == studies["official_micro"] | {"agreement"}
    assert studies["convolutions"] == {"accuracy", "calibration", "agreement"}
    page = (tmp_path / "it" / "report.html").read_text()
    assert "--model timm:vit --model timm:convolutions --weights random --weights random" in page


@pytest.mark.parametrize("study", ["rank", "collapse"])
def test_a_study_of_attention_refuses_a_model_that_shows_none(
    command: Command, timm: ModuleType, study: str
) -> None:
    words = ["--model", "timm:convolutions", "--weights", "random", "--data", "photos"]
    code, out, err = command(study, *words)
    assert (code, out) == (3, "")
    assert f"convolutions: {study} needs attention" in err


def test_features_are_what_the_head_reads(timm: ModuleType) -> None:
    subject = open_timm("timm:convolutions", "random", device=CPU)
    (seen,) = subject.observe(torch.randn(2, 3, 64, 64), {"logits", "features"})
    assert torch.equal(subject.model.head["fc"](seen.features), seen.logits)
    with pytest.raises(SubjectError, match="shows no used"):
        next(subject.observe(torch.randn(2, 3, 64, 64), {"used"}))


@pytest.mark.parametrize(
    "changes", [{"crop_mode": "border"}, {"interpolation": "lanczos"}, {"input_size": (3, 64, 96)}]
)
def test_a_transform_that_is_not_ours_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SubjectError, match="evaluation transform"):
        transform_of("timm:any", {**SETTINGS, **changes}, "model", None)


def test_the_papers_transform_keeps_the_models_own_colours(timm: ModuleType) -> None:
    subject = open_timm("timm:vit", "random", device=CPU, preprocess="paper-calibration")
    described = subject.describe()["transform"]
    assert (described["interpolation"], described["short_side"]) == ("bilinear", 73)
    assert described["mean"] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("name", ["vit_tiny", "deit_tiny", "deit3_small"])
def test_logits_are_those_of_the_real_timm(reference: Callable[[str], Any], name: str) -> None:
    reference("timm")
    subject = open_timm(f"timm:{name}_patch16_224", "random", device=CPU)
    assert isinstance(subject, ModelSubject)
    theirs = make(f"timm:{name}_patch16_224", "random").model
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(images)
        assert (subject.model(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_attention_is_that_of_the_real_timm(reference: Callable[[str], Any]) -> None:
    reference("timm")
    name = "timm:deit_tiny_patch16_224"
    theirs, maps = make(name, "random").model, []
    for block in theirs.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _m, _i, seen: maps.append(seen))
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        theirs(images)
        ours = [*open_timm(name, "random", device=CPU).observe(images, {"used", "logits"})]
    assert len(maps) == 12
    for layer, expected in zip(ours, maps, strict=False):
        torch.testing.assert_close(layer.used, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto", "resnet10t"])
def test_the_transform_is_that_of_the_real_timm(reference: Callable[[str], Any], name: str) -> None:
    timm, images = reference("timm"), reference("PIL.Image")
    settings = timm.data.resolve_model_data_config(timm.create_model(name))
    theirs = timm.data.create_transform(**settings, is_training=False)
    ours = transform_of(f"timm:{name}", settings, "model", None)
    assert isinstance(ours, Transform)
    random = np.random.default_rng(0)
    for size in ((90, 400), (333, 251), (224, 224), (500, 375)):
        pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        assert torch.equal(ours(pixels), theirs(images.fromarray(pixels)))


@pytest.mark.parametrize(
    ("name", "attends"), [("deit_tiny_distilled_patch16_224", True), ("convnext_atto", False)]
)
def test_the_real_timms_other_models_show_logits_and_attention_where_they_attend(
    reference: Callable[[str], Any], name: str, attends: bool
) -> None:
    reference("timm")
    subject = open_timm(f"timm:{name}", "random", device=CPU)
    assert isinstance(subject, NetworkSubject)
    assert ("used" in subject.shows) == attends
    assert any("attention is not seen" in note for note in subject.describe()["notes"]) != attends
    (seen,) = subject.observe(torch.randn(1, 3, 224, 224), {"logits", "features"})
    assert seen.logits.shape == (1, 1000)
