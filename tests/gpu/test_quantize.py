"""Quantized models on a GPU; the suite skips it where there is none."""

from __future__ import annotations

import pytest
import torch

from illama.checkpoint.load import load
from illama.config import Config
from illama.model import Model
from illama.transforms import evaluation_transform
from illama_eval.quantize.ptq import quantize
from illama_eval.quantize.schemes import QuantizationConfig
from illama_eval.subjects.checkpoint import ModelSubject

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


@pytest.fixture(scope="module")
def subject() -> ModelSubject:
    torch.manual_seed(0)
    model = Model(Config(image_size=64, patch_size=8, width=192, depth=2, heads=3, classes=16))
    transform = evaluation_transform(64)
    return ModelSubject(name="tested", model=model.eval().cuda(), transform=transform)


def ratio(exact: torch.Tensor, found: torch.Tensor) -> float:
    noise = (found.double() - exact.double()).square().sum()
    return float(10 * (exact.double().square().sum() / noise).log10())


@pytest.mark.parametrize("scheme", ["w8", "w8a8-dynamic", "w6", "w4", "w3", "w2", "w4a4", "fp8"])
def test_a_quantized_file_loads_bit_equal_on_a_gpu(tmp_path, subject, scheme):
    if scheme == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("fp8 needs compute capability 8.9")
    made = quantize(subject, QuantizationConfig(scheme=scheme))
    path = tmp_path / "model.safetensors"
    path.write_bytes(made.file)
    images = torch.randn(32, 3, 64, 64, device="cuda")
    with torch.no_grad():
        found = made.model(images)
        assert torch.equal(load(path, device="cuda")(images), found)
        assert ratio(subject.model(images), found) > (20 if "8" in scheme else 0)


@pytest.mark.parametrize("scheme", ["w8a8-dynamic", "w4"])
def test_a_file_says_the_same_on_both_devices(tmp_path, subject, scheme):
    path = tmp_path / "model.safetensors"
    path.write_bytes(quantize(subject, QuantizationConfig(scheme=scheme)).file)
    images = torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        assert ratio(load(path)(images), load(path, device="cuda")(images.cuda()).cpu()) > 40
