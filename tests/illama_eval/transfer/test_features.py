"""Frozen features: what they are, and that a kept file is used only where it is the right one."""

from __future__ import annotations

import json
import os
import resource
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from illama.checkpoint.checksums import sha256_of_weights
from illama.config import Config
from illama.model import Model
from illama.sources import open_source
from illama.sources.source import Source
from illama.transforms import ImageError, evaluation_transform
from illama_eval.run.job import Options
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.subject import SubjectError
from illama_eval.transfer import features as features_module
from illama_eval.transfer.features import extract

IMAGES = 30


def make_subject(seed: int = 0, depth: int = 4) -> ModelSubject:
    torch.manual_seed(seed)
    config = Config(image_size=32, patch_size=16, width=24, depth=depth, heads=2, classes=3)
    model = Model(config).eval()
    return ModelSubject(
        name="tiny",
        model=model,
        transform=evaluation_transform(32),
        provenance={"weights_sha256": sha256_of_weights(model.state_dict())},
    )


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source("digits").limit(IMAGES, 0)


def images_of(subject: ModelSubject, source: Source) -> torch.Tensor:
    return torch.stack([subject.transform(source.read(i)) for i in range(len(source))])


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """Count the batches that are observed."""
    counted: list[int] = []
    observe = ModelSubject.observe

    def count(self, inputs, wanted):
        counted.append(len(inputs))
        return observe(self, inputs, wanted)

    monkeypatch.setattr(ModelSubject, "observe", count)
    return counted


def test_features_are_what_the_model_shows(tmp_path, source):
    subject = make_subject()
    images = images_of(subject, source)
    with torch.no_grad():
        *layers, output = subject.model.observe(images, {"features", "tokens"})
        place = subject.model.config.class_index
        tokens = [subject.model.norm(layer.tokens) for layer in layers]
    expected = {
        "class": output.features,
        "patches": tokens[-1][:, [i for i in range(5) if i != place]].mean(1),
        "last4": torch.cat([each[:, place] for each in tokens], dim=1),
    }
    for kind, wanted in expected.items():
        found = extract(subject, source, kind, tmp_path, Options(batch_size=7))
        assert np.allclose(found.values, wanted.numpy(), atol=1e-5), kind
    assert len(list(tmp_path.glob("*.npy"))) == 3


def test_the_batch_size_changes_no_feature(tmp_path, source):
    found = [
        extract(make_subject(), source, "class", tmp_path / str(size), Options(batch_size=size))
        for size in (1, 8, 30)
    ]
    for each in found[1:]:
        assert np.allclose(each.values, found[0].values, atol=1e-5)


def test_features_are_extracted_once(tmp_path, source, passes):
    first = extract(make_subject(), source, "class", tmp_path)
    count = len(passes)
    second = extract(make_subject(), source, "class", tmp_path)
    assert len(passes) == count
    assert np.array_equal(first.values, second.values)


def reversed_source(source: Source) -> Source:
    return source.keep(np.arange(len(source))[::-1])


@pytest.mark.parametrize(
    ("subject", "change"),
    [
        (make_subject(seed=1), lambda source: source),
        (replace(make_subject(), soft_mask=0.5), lambda source: source),
        (
            replace(
                make_subject(),
                transform=evaluation_transform(32).with_preprocess("paper-calibration"),
            ),
            lambda source: source,
        ),
        (make_subject(), lambda source: source.limit(20, 0)),
        (make_subject(), reversed_source),
    ],
    ids=["weights", "soft mask", "transform", "images", "order"],
)
def test_other_features_are_not_taken_for_these(tmp_path, source, passes, subject, change):
    extract(make_subject(), source, "class", tmp_path)
    count = len(passes)
    other = change(source)
    found = extract(subject, other, "class", tmp_path)
    assert len(passes) > count
    fresh = extract(subject, other, "class", tmp_path / "fresh")
    assert np.array_equal(found.values, fresh.values)


@pytest.mark.parametrize("damage", ["bytes", "shorter", "no record", "foreign record"])
def test_a_damaged_file_is_made_again(tmp_path, source, damage):
    exact = extract(make_subject(), source, "class", tmp_path).values.copy()
    [file], [record] = tmp_path.glob("*.npy"), tmp_path.glob("*.json")
    content = bytearray(file.read_bytes())
    if damage == "bytes":
        content[-5] ^= 1
        file.write_bytes(content)
    elif damage == "shorter":
        file.write_bytes(content[:-40])
    elif damage == "no record":
        record.unlink()
    else:
        record.write_text(json.dumps({**json.loads(record.read_text()), "key": {}}))
    assert np.array_equal(extract(make_subject(), source, "class", tmp_path).values, exact)


def test_an_interrupted_extraction_goes_on(tmp_path, source, passes):
    exact = extract(make_subject(), source, "class", tmp_path / "whole", Options(batch_size=5))
    passes.clear()

    def stop(_: int) -> None:
        if len(passes) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        extract(make_subject(), source, "class", tmp_path, Options(batch_size=5, on_batch=stop))
    assert ended.value.code == 128 + signal.SIGTERM
    assert len(passes) == 2
    heard: list[tuple[int, int]] = []
    options = Options(batch_size=9, on_start=lambda *told: heard.append(told))
    again = extract(make_subject(), source, "class", tmp_path, options)
    assert heard == [(IMAGES, 10)]
    assert len(passes) == 6
    assert np.array_equal(again.values, exact.values)


def test_unreadable_images_are_kept_apart(tmp_path, source):
    def read(position: int):
        if position == 3:
            raise ImageError("broken on purpose")
        return source.read(position)

    found = extract(make_subject(), replace(source, read=read), "class", tmp_path)
    assert found.unreadable == ((3, "broken on purpose"),)
    assert np.isnan(found.values[3]).all()
    assert np.isfinite(np.delete(found.values, 3, 0)).all()


def test_a_source_without_a_readable_image_is_refused(tmp_path, source):
    def read(_: int):
        raise ImageError("broken on purpose")

    with pytest.raises(SubjectError, match="none of the images can be read"):
        extract(make_subject(), replace(source, read=read), "class", tmp_path)


def test_a_shallow_model_has_no_last_four_blocks(tmp_path, source):
    with pytest.raises(SubjectError, match="last4 needs 4"):
        extract(make_subject(depth=2), source, "last4", tmp_path)
    assert features_module.LAST == 4


def test_a_full_disk_is_one_line_and_leaves_what_was_kept(tmp_path, source):
    subject = make_subject()
    kept = extract(subject, source.limit(4, 0), "class", tmp_path).values.copy()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # as a disk that is full after 1 kB
    try:
        with pytest.raises(SubjectError, match="no room for 30 features of 96 bytes"):
            extract(subject, source, "class", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.glob("*.half.npy"))
    assert np.array_equal(extract(subject, source.limit(4, 0), "class", tmp_path).values, kept)
    assert len(extract(subject, source, "class", tmp_path).values) == len(source)
