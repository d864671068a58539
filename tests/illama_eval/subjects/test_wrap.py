from __future__ import annotations

import doctest
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import illama_eval
from illama.observation import OutputSeen
from illama.sources import open_source
from illama.transforms import Transform
from illama_eval.studies.accuracy import Accuracy
from illama_eval.studies.collapse import Collapse
from illama_eval.studies.rank import Rank
from illama_eval.subjects import wrap as module
from illama_eval.subjects.subject import SubjectError

TRANSFORM = Transform(image_size=32, resize="warp")


def test_a_module_of_ones_own_is_measured(
    transformer: Callable[..., nn.Module], small_images: Path
) -> None:
    subject = illama_eval.wrap(transformer(), TRANSFORM, classes=list("abcde"))
    source = open_source(str(small_images)).limit(4, 0)
    run = illama_eval.evaluate(subject, source, [Rank(), Collapse()])
    values = {(row.study, row.metric): row.value for row in run.rows if not row.at}
    assert values["rank", "rank_of_mean_map"] is not None
    assert values["collapse", "reach"] is not None
    assert run.header["subjects"][0]["class_names"] == list("abcde")


def test_without_a_class_token_only_its_numbers_are_left_out(
    transformer: Callable[..., nn.Module], small_images: Path
) -> None:
    subject = illama_eval.wrap(transformer(prefix=0), TRANSFORM, classes=5)
    source = open_source(str(small_images)).limit(4, 0)
    run = illama_eval.evaluate(subject, source, [Collapse()])
    rows = {row.metric: row for row in run.rows if not row.at}
    for metric in ("reach", "class_row_mass"):
        assert rows[metric].value is None
        assert rows[metric].reason == "the model has no class token"
    assert rows["row_mass"].value == pytest.approx(1, abs=1e-6)
    assert rows["entropy_share"].value is not None
    (isolation,) = [v for v in run.verdicts if v.name == "class_token_isolation"]
    assert (isolation.verdict, isolation.reason) == ("undecided", "the model has no class token")


def test_features_are_the_heads_inputs_or_a_headless_modules_output(
    transformer: Callable[..., nn.Module],
) -> None:
    network, images = transformer(), torch.randn(2, 3, 32, 32)
    (seen,) = illama_eval.wrap(network, TRANSFORM, classes=5).observe(
        images, {"logits", "features"}
    )
    torch.testing.assert_close(network.head(seen.features), seen.logits)
    network.head = nn.Identity()
    headless = illama_eval.wrap(network, TRANSFORM)
    (alone,) = headless.observe(images, {"features"})
    assert torch.equal(alone.features, seen.features)
    assert "logits" not in headless.shows


def test_accuracy_says_that_the_head_is_missing(
    transformer: Callable[..., nn.Module], small_images: Path
) -> None:
    subject = illama_eval.wrap(transformer(), TRANSFORM)
    source = open_source(str(small_images)).limit(4, 0)
    with pytest.raises(ValueError, match="accuracy needs logits, and this model has no head"):
        illama_eval.evaluate(subject, source, [Accuracy()])


def test_of_a_dictionary_the_logits_count_wherever_they_stand() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3 * 32 * 32, 5)

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.head(images.flatten(1))
            return {"auxiliary": -logits, "logits": logits}

    network, images = Two(), torch.rand(3, 3, 32, 32)
    (seen,) = illama_eval.wrap(network, TRANSFORM, classes=5).observe(images, {"logits"})
    assert isinstance(seen, OutputSeen)
    assert seen.logits is not None
    assert torch.equal(seen.logits, network(images)["logits"])


def test_another_number_of_classes_is_refused(transformer: Callable[..., nn.Module]) -> None:
    with pytest.raises(SubjectError, match="Transformer: has 5 outputs and 7 classes"):
        illama_eval.wrap(transformer(), TRANSFORM, classes=7)


def test_the_example_of_its_docstring_runs() -> None:
    assert doctest.testmod(module) == (0, 5)
