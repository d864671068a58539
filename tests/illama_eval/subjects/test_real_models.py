"""Known answers of two models trained on photographs (../shared/models/MANIFEST.md)."""

from __future__ import annotations

import copy
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from illama.observation import LayerSeen
from illama.sources import open_source
from illama_eval.commands.labels import fit_labels
from illama_eval.commands.resolve import ShapeBiasInputs
from illama_eval.quantize.ptq import as_subject, quantize
from illama_eval.quantize.schemes import QuantizationConfig
from illama_eval.results import Run
from illama_eval.run.evaluate import evaluate
from illama_eval.studies.accuracy import Accuracy
from illama_eval.studies.calibration import Calibration
from illama_eval.studies.feature_agreement import FeatureAgreement
from illama_eval.studies.rank import Rank
from illama_eval.studies.shape_bias import ShapeBias
from illama_eval.subjects.network import NetworkSubject
from illama_eval.subjects.timm import open_timm

CPU = torch.device("cpu")
VIT = ("timm:vit_small_patch14_dinov2", "vit_small_patch14.safetensors")
LITE = ("timm:tf_efficientnet_lite0", "efficientnet_lite0.safetensors")
RANKED = 30
USED, MASKED, WITHIN = 93.7, 120.1, 0.05
"""The answers of the manifest, which does not say which 30 of the 100 photographs it took: the
first give 90.3 and 116.9, and six choices of 30 give 88.9 to 93.8 and 116.4 to 121.1."""
QUANTIZED = 4
"""Images on which a quantized model is compared with the exact one."""
LAYERS_ALIVE = 2
DECISIONS = 5
"""Of 1,200, by how many ours may differ from the manifest's: its answers are of the fp32 weights,
the file has fp16 copies."""
pytestmark = pytest.mark.data


@pytest.fixture
def subject(reference: Callable[[str], Any], shared: Path) -> Callable[..., NetworkSubject]:
    """Return a function that opens one of the two models at 224 px."""
    reference("timm")

    def make(model: tuple[str, str]) -> NetworkSubject:
        found = open_timm(model[0], str(shared / "models" / model[1]), device=CPU, image_size=224)
        assert isinstance(found, NetworkSubject)
        return found

    return make


def test_attention_of_a_real_vit_is_that_of_its_own_eager_path(
    subject: Callable[..., NetworkSubject], shared: Path
) -> None:
    vit = subject(VIT)
    source = open_source(str(shared / "data" / "imagenet_sample"))
    images = torch.stack([vit.prepare(source.read(number)) for number in range(2)])
    *layers, output = vit.observe(images, {"used", "features", "tokens"})
    maps: list[torch.Tensor] = []
    for block in vit.model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _m, _i, seen: maps.append(seen))
    with torch.no_grad():
        expected = vit.model.forward_features(images)
    for layer, eager in zip(layers, maps, strict=True):
        torch.testing.assert_close(layer.used, eager, rtol=1e-4, atol=1e-6)
        assert (layer.class_index, layer.image_tokens) == (0, slice(1, 257))
    torch.testing.assert_close(output.features, expected[:, 0], rtol=1e-4, atol=1e-4)


def test_a_real_vits_rank_with_and_without_a_causal_mask(
    subject: Callable[..., NetworkSubject], shared: Path
) -> None:
    source = open_source(str(shared / "data" / "imagenet_sample"))
    source = source.keep(np.arange(RANKED))
    run = evaluate(subject(VIT), source, [Rank(spectra=1)])
    found = {
        row.at.get("map"): row.value
        for row in run.rows
        if row.metric == "rank_of_mean_map" and "layer" not in row.at
    }
    assert found[None] == pytest.approx(USED, rel=WITHIN)
    assert found["masked"] == pytest.approx(MASKED, rel=WITHIN)


def test_a_network_without_attention_has_accuracy_and_says_why_it_has_no_rank(
    subject: Callable[..., NetworkSubject], shared: Path
) -> None:
    lite = subject(LITE)
    assert "attention is not seen: no module" in lite.describe()["notes"][0]
    source = open_source(str(shared / "data" / "imagenet_sample"))
    source = fit_labels(source, [lite], needed=True)
    run = evaluate(lite, source, [Accuracy(), Calibration()])
    found = {row.metric: row.value for row in run.rows if not row.at}
    assert found["ece"] == pytest.approx(0.1459, abs=2e-4)
    assert found["top1"] == pytest.approx(0.89, abs=0.011)
    assert found["top5"] == pytest.approx(0.98, abs=0.011)


def test_a_real_networks_shape_bias_is_that_of_the_manifest(
    subject: Callable[..., NetworkSubject], shared: Path
) -> None:
    lite = subject(LITE)
    source = open_source(str(shared / "data" / "cue_conflict" / "images"))
    study = ShapeBiasInputs().fit(ShapeBias(), source, [lite])
    run = evaluate(lite, source, [study])
    found = {row.metric: row.value for row in run.rows if not row.at}
    assert found["shape_decisions"] == pytest.approx(169, abs=DECISIONS)
    assert found["texture_decisions"] == pytest.approx(614, abs=DECISIONS)
    assert found["shape_bias"] == pytest.approx(0.215836, abs=3e-3)
    assert found["undecided"] == pytest.approx(0.3475, abs=DECISIONS / 1200)


def test_maps_of_1370_tokens_are_released_while_they_are_observed(
    reference: Callable[[str], Any], shared: Path
) -> None:
    reference("timm")
    weights = str(shared / "models" / VIT[1])
    vit = open_timm(VIT[0], weights, device=CPU, image_size=518)
    image = open_source(str(shared / "data" / "imagenet_sample")).read(0)
    maps: list[weakref.ref[torch.Tensor]] = []
    for piece in vit.observe(vit.prepare(image)[None], frozenset({"used"})):
        if isinstance(piece, LayerSeen):
            assert piece.used is not None
            assert piece.used.shape == (1, 6, 1370, 1370)
            maps.append(weakref.ref(piece.used))
        assert sum(each() is not None for each in maps) <= LAYERS_ALIVE
    assert len(maps) == 12


def test_two_real_models_share_a_run_with_their_own_transforms(
    command: Callable[..., tuple[int, str, str]],
    undrawn: None,
    reference: Callable[[str], Any],
    shared: Path,
    tmp_path: Path,
) -> None:
    reference("timm")
    words = [word for name, file in (VIT, LITE) for word in ("--model", name)]
    words += [word for _, file in (VIT, LITE) for word in ("--weights", shared / "models" / file)]
    code, _, err = command(
        "run",
        *words,
        "--data",
        shared / "data" / "imagenet_sample",
        "--limit",
        4,
        "--out",
        "it",
        "--image-size",
        224,
    )
    assert code == 0, err
    run = Run.load(tmp_path / "it")
    studies = {
        name: {row.study for row in run.rows if row.subject == name}
        for name in ("vit_small_patch14_dinov2", "tf_efficientnet_lite0")
    }
    vit, lite = (run.header["identity"]["subjects"][number] for number in ("0", "1"))
    assert vit["transform"] != lite["transform"]
    assert studies["vit_small_patch14_dinov2"] == {"rank", "collapse"}
    assert studies["tf_efficientnet_lite0"] == {"accuracy", "calibration"}
    assert "accuracy needs logits, and this model has no head" in err.replace("\n", " ")
    same, out, err = command("compare", "it", "it", "--json")
    assert same == 0, err
    compared = {each["subjects"][0] for each in json.loads(out)["comparisons"]}
    assert compared == {"vit_small_patch14_dinov2", "tf_efficientnet_lite0"}
    assert command("report", "it")[0] == 0
    assert "tf_efficientnet_lite0" in (tmp_path / "it" / "report.html").read_text("utf-8")


def parameters(subject: NetworkSubject) -> int:
    return sum(each.numel() for each in subject.model.parameters())


def test_the_linear_layers_of_a_real_vit_are_quantized(
    subject: Callable[..., NetworkSubject], shared: Path
) -> None:
    vit = subject(VIT)
    source = open_source(str(shared / "data" / "imagenet_sample")).keep(np.arange(QUANTIZED))
    eight, four = (quantize(vit, QuantizationConfig(scheme=name)) for name in ("w8", "w4"))
    described = eight.describe()
    assert [len(described["quantized"]), list(described["left"])] == [48, ["patch_embed.proj"]]
    assert described["share"] == pytest.approx(12 * 12 * 384**2 / parameters(vit))
    by_hand = copy.deepcopy(vit.model)
    for name in eight.weights:
        layer = by_hand.get_submodule(name)
        scale = (layer.weight.abs().amax(1, keepdim=True) / 127.5).bfloat16().float()
        layer.weight.data = (layer.weight * (1 / scale)).round().clamp(-128, 127) * scale
    image = vit.prepare(source.read(0))[None]
    with torch.no_grad():
        exact, expected, found = (net(image) for net in (vit.model, by_hand, eight.model))
    assert (found - expected).norm() < 0.01 * (expected - exact).norm()
    assert (expected - exact).norm() < 0.05 * exact.norm()
    run = evaluate([vit, as_subject(four, vit)], source, [FeatureAgreement()])
    assert 3 < (run.value("feature_agreement", "feature_sqnr").value or 0.0) < 25


def test_a_real_convolutional_network_has_its_head_quantized_if_it_is_asked_for(
    command: Callable[..., tuple[int, str, str]],
    undrawn: None,
    reference: Callable[[str], Any],
    shared: Path,
    tmp_path: Path,
) -> None:
    reference("timm")
    words = ("--model", LITE[0], "--weights", shared / "models" / LITE[1], "--limit", QUANTIZED)
    data = ("--data", shared / "data" / "imagenet_sample", "--out", "it", "--latency", "none")
    code, _, err = command("quantize", *words, *data)
    assert code == 3
    assert "nothing is left to quantize (classifier); --exclude none" in " ".join(err.split())
    code, _, err = command("quantize", *words, *data, "--exclude", "none")
    assert code == 0, err
    assert "1 linear layer is quantized, 27.3% of the weights" in " ".join(err.split())
    run = Run.load(tmp_path / "it")
    sqnr = run.value("agreement", "logit_sqnr", subject=run.header["subjects"][1]["name"])
    assert 30 < (sqnr.value or 0.0) < 60


def test_features_of_a_headless_model_are_transferred(
    command: Callable[..., tuple[int, str, str]],
    undrawn: None,
    reference: Callable[[str], Any],
    shared: Path,
    tmp_path: Path,
) -> None:
    reference("timm")
    words = ("--model", VIT[0], "--weights", shared / "models" / VIT[1], "--image-size", 56)
    few = ("--limit", 60, "--train-limit", 120, "--probe", "knn", "--neighbours", "5")
    code, _, err = command("transfer", *words, "--data", "digits", *few, "--out", "it")
    assert code == 0, err
    top1 = Run.load(tmp_path / "it").value("accuracy", "top1")
    assert top1.value is not None
    assert top1.value > 0.5  # chance is 0.1
