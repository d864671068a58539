from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from illama_eval.subjects.checkpoint import (
    ModelSubject,
    as_checkpoint,
    open_checkpoint,
    with_random_weights,
)
from illama_eval.subjects.subject import SubjectError


@pytest.fixture(scope="module")
def subject(golden_checkpoint: Path) -> ModelSubject:
    return open_checkpoint(golden_checkpoint, device=torch.device("cpu"))


def test_a_file_is_described_without_its_path(subject: ModelSubject) -> None:
    described = subject.describe()
    assert (described["name"], described["file"]) == ("official_micro", "official_micro.pth")
    assert (described["soft_mask"], described["dtype"]) == (0.0, "fp32")
    assert described["config"]["classes"] == 10
    assert "/" not in str(described["file"])


def test_the_papers_transform_keeps_the_size_of_the_model(
    golden_checkpoint: Path, subject: ModelSubject
) -> None:
    paper = open_checkpoint(
        golden_checkpoint, device=torch.device("cpu"), preprocess="paper-calibration"
    )
    assert (paper.transform.resize, paper.transform.interpolation) == ("short-side", "bilinear")
    assert paper.transform.image_size == subject.transform.image_size
    assert paper.transform.mean == subject.transform.mean


def test_maps_take_more_bytes_the_more_is_wanted(subject: ModelSubject) -> None:
    logits, used, both = (
        subject.map_bytes(frozenset(wanted))
        for wanted in (("logits",), ("used",), ("used", "softmax"))
    )
    assert 0 < logits < used < both
    one_map = 4 * subject.model.config.heads * subject.model.config.tokens**2
    assert both - used == one_map


def test_a_fused_product_forms_no_map_and_half_the_precision_takes_half_the_bytes(
    golden_checkpoint: Path,
) -> None:
    full, half = (
        open_checkpoint(golden_checkpoint, device=torch.device("cpu"), dtype=dtype)
        for dtype in ("fp32", "bf16")
    )
    wanted = frozenset({"logits"})
    explicit = full.map_bytes(wanted)
    assert explicit == 2 * half.map_bytes(wanted)
    full.model.path = "fused"
    config = full.model.config
    assert explicit - full.map_bytes(wanted) == 2 * 4 * config.heads * config.tokens**2
    assert full.map_bytes(frozenset({"used"})) > explicit


def test_the_control_has_the_form_and_not_the_weights(subject: ModelSubject) -> None:
    state = torch.get_rng_state()
    one, same, other = (with_random_weights(subject, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    digests = [each.provenance["weights_sha256"] for each in (one, same, other, subject)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert one.model.config == subject.model.config
    assert not one.model.training


def test_only_our_models_are_checkpoints(subject: ModelSubject) -> None:
    assert as_checkpoint(subject, "needs weights") is subject
    with pytest.raises(SubjectError, match="saved: needs weights"):
        as_checkpoint(SimpleNamespace(name="saved"), "needs weights")  # type: ignore[arg-type]
