"""What only a GPU can show; the suite skips it where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from illama.arithmetic import use_exact_products
from illama.checkpoint.load import load
from illama.config import STEPS, Config
from illama.model import Model
from illama.sources import open_source
from illama.sources.head import for_head
from illama.transforms import evaluation_transform
from illama_eval.functional.spectrum import index_of_share, start_index_of_share
from illama_eval.run.evaluate import evaluate
from illama_eval.run.job import Options
from illama_eval.run.plan import BatchPlan
from illama_eval.studies import STUDIES
from illama_eval.subjects.checkpoint import ModelSubject, open_checkpoint

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


@pytest.fixture(autouse=True)
def _exact_products() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    use_exact_products("cuda")
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _relative(found: torch.Tensor, expected: np.ndarray) -> float:
    wanted = torch.from_numpy(expected)
    return float((found.float().cpu() - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("soft_mask", [0.0, 0.5, 1.0])
def test_the_released_logits_are_reproduced(
    golden_checkpoint: Path, path: str, soft_mask: float
) -> None:
    golden = np.load(golden_checkpoint.with_suffix(".npz"))
    model = load(golden_checkpoint).cuda()
    model.path = path
    images = torch.from_numpy(golden["images"]).cuda()
    with torch.no_grad():
        logits = model(images, soft_mask)
    assert _relative(logits, golden[f"logits_soft_{soft_mask}"]) < 1e-5


@pytest.mark.parametrize("step", STEPS)
def test_fused_attention_equals_the_explicit_product_in_value_and_gradient(step: str) -> None:
    torch.manual_seed(0)
    config = Config.at(step, "nano")
    model = Model(config).cuda()
    images = torch.randn(4, 3, 32, 32, device="cuda")
    soft_mask = 0.3 if config.masking == "multiplicative" else 0.0
    found = {}
    for path in ("explicit", "fused"):
        model.path = path
        model.zero_grad()
        logits = model(images, soft_mask)
        logits.square().sum().backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found[path] = logits.detach(), gradients
    for explicit, fused in zip(found["explicit"], found["fused"], strict=True):
        assert (explicit - fused).abs().max() <= 1e-4 * explicit.abs().max()


@pytest.mark.parametrize("soft_mask", [0.0, 0.3])
def test_compiled_attention_is_split_at_the_diagonal_and_equals_the_explicit_product(
    soft_mask: float,
) -> None:
    torch.manual_seed(0)
    model = Model(Config.at("soft-mask", "nano"), path="explicit").cuda()
    images = torch.randn(4, 3, 32, 32, device="cuda")
    expected = model(images, soft_mask)
    gradients = torch.autograd.grad(expected.square().sum(), list(model.parameters()))
    model.path = "fused"
    assert model.prepare_to_compile() == ""
    found = torch.compile(model)(images, soft_mask)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    split = torch.autograd.grad(found.square().sum(), list(model.parameters()))
    for one, other in zip(split, gradients, strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max() + 1e-7


def test_spectra_beside_the_gpu_are_those_of_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = (3 * torch.randn(600, 65, 65, generator=generator)).softmax(-1).tril()
    found = torch.cat([part.result() for part in start_index_of_share(maps.cuda(), 0.8)])
    assert torch.equal(found, index_of_share(maps, 0.8))


def test_bf16_agrees_with_fp32(golden_checkpoint: Path) -> None:
    golden = np.load(golden_checkpoint.with_suffix(".npz"))
    model = load(golden_checkpoint).cuda().bfloat16()
    images = torch.from_numpy(golden["images"]).cuda().bfloat16()
    with torch.no_grad():
        logits = model(images)
    assert _relative(logits, golden["logits_soft_0.0"]) < 5e-2


def test_a_run_on_the_gpu_equals_one_on_the_cpu(
    golden_checkpoint: Path, small_images: Path
) -> None:
    source = for_head(open_source(str(small_images)), 10)
    studies = [
        study() for study in STUDIES.values() if study.requires <= {"labels", "single_labels"}
    ]
    runs = [
        evaluate(open_checkpoint(golden_checkpoint, device=torch.device(name)), source, studies)
        for name in ("cpu", "cuda")
    ]
    for cpu, gpu in zip(runs[0].rows, runs[1].rows, strict=True):
        assert (cpu.metric, cpu.at, cpu.images) == (gpu.metric, gpu.at, gpu.images)
        if cpu.metric in {"top1", "top5"}:
            assert cpu.value == gpu.value


def test_batches_that_are_copied_beside_the_model_are_those_of_the_source(
    golden_checkpoint: Path, small_images: Path
) -> None:
    source = for_head(open_source(str(small_images)), 10)
    device = torch.device("cuda", 0)
    subject = open_checkpoint(golden_checkpoint, device=device)
    for workers in (0, 2):
        plan = BatchPlan([subject], source, 4)
        for loaded in plan.load(workers, 0):
            torch.cuda._sleep(10**7)  # the model takes longer than the copy of the next batch
            seen = plan.normalize(0, plan.inputs(0, loaded))
            expected = [subject.transform(source.read(i)) for i in loaded.positions]
            assert torch.equal(seen.cpu(), torch.stack(expected))
            assert plan.batch(loaded).positions.tolist() == loaded.positions.tolist()


def test_memory_that_runs_out_lowers_the_batch_and_changes_no_integer(small_images: Path) -> None:
    config = Config(image_size=64, patch_size=4, width=96, depth=2, heads=3, classes=10)
    torch.manual_seed(0)
    subject = ModelSubject(
        name="random", model=Model(config).eval().cuda(), transform=evaluation_transform(64)
    )
    source = for_head(open_source(str(small_images)), 10)
    studies = [STUDIES["accuracy"](), STUDIES["rank"]()]
    ample = evaluate(subject, source, studies, options=Options(batch_size=4))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(2**28 / total)
        scarce = evaluate(subject, source, studies, options=Options(batch_size=61))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    expected = ample.value("accuracy", "top1")
    assert scarce.value("accuracy", "top1").value == expected.value
    assert scarce.value("accuracy", "top1").images == 61
