"""What holds for every study, whatever it measures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from illama.config import Config
from illama.model import Model
from illama.observation import Batch, Changed, LayerSeen, OutputSeen, Piece, SegmentsSeen
from illama_eval.bootstrap import keys_of
from illama_eval.cue_conflict import Observer
from illama_eval.probe import is_for, replace_patches, union_of
from illama_eval.results import Row, Run
from illama_eval.studies import STUDIES
from illama_eval.studies.calibration import Calibration
from illama_eval.studies.segmentation import MODES, Segmentation
from illama_eval.studies.shape_bias import ShapeBias
from illama_eval.study import Study, StudyResult, Sums, accumulate

IMAGES = 20
CLASSES = 5
OPTIONS: dict[str, tuple[Study, ...]] = {
    "calibration": (Calibration(), Calibration(split="first-half")),
    "segmentation": (Segmentation(names=tuple(map(str, range(CLASSES)))),),
    "shape_bias": (
        ShapeBias(
            categories=tuple((f"category {index}", (index,)) for index in range(CLASSES)),
            observers=(
                Observer(
                    name="somebody",
                    kind="human",
                    sha256="",
                    decisions={f"{index:05d}": (index % 3) or None for index in range(10)},
                ),
            ),
        ),
    ),
}
"""Parameters under which a study together shows all it declares; others do by default."""
FLOAT32 = frozenset({"image/logits"})
"""Records that are kept in the precision of the model."""
COUNTED = frozenset({"images", "index"})
"""Units of whole numbers."""

every_study = pytest.mark.parametrize("name", STUDIES)


@pytest.fixture(scope="module")
def labels() -> Tensor:
    return torch.arange(IMAGES) % CLASSES


@pytest.fixture(scope="module")
def observed() -> tuple[Piece, ...]:
    """All that a tiny model shows of all images, with another's as reference, without a batch."""
    torch.manual_seed(0)
    config = Config(image_size=16, patch_size=4, width=24, depth=2, heads=2, classes=CLASSES)
    model = Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)
        images = torch.randn(IMAGES, 3, 16, 16)
        wanted = frozenset().union(*(study.wants for study in STUDIES.values()))
        first = tuple(map(with_background, model.observe(images, wanted)))
        for parameter in model.parameters():
            parameter.mul_(1.1)
        pairs = zip(map(with_background, model.observe(images, wanted)), first, strict=True)
        seen = tuple(replace(piece, reference=reference) for piece, reference in pairs)
        changed = tuple(changed_pieces(model, images, seen))
        return (*seen, *(segments(mode) for mode in MODES), *changed)


def with_background(piece: Piece) -> Piece:
    """Return a layer with masks of other pixels of every image, as the loop would attach them."""
    if not isinstance(piece, LayerSeen):
        return piece
    drawn = torch.Generator().manual_seed(5)
    return replace(piece, background=torch.rand(IMAGES, 16, 16, generator=drawn) < 0.5)


def changed_pieces(model: Model, images: Tensor, originals: Sequence[Piece]) -> Iterator[Piece]:
    """What the model shows of all images of every probe, as the loop would attach it."""
    keys = keys_of(f"test/{number:05d}" for number in range(IMAGES))
    for probe, wanted in union_of(study for name in STUDIES for study in options(name)).items():
        counts = torch.tensor(probe.counts(model.config.tokens - 1))
        kept = counts[keys.remainder(len(counts))]
        if probe.rest == "replaced":
            shown = model.observe(replace_patches(images, images.roll(1, 0), kept, 4), wanted)
            pairs = list(zip(shown, originals, strict=True))
        else:
            *_, output = model.observe(images, {"logits"}, patches=int(counts[0]))
            pairs = [(output, originals[-1])]
        for piece, original in pairs:
            changed = Changed(probe=probe.name, kept=kept, original=original)
            yield replace(piece, changed=changed)


def segments(mode: str) -> SegmentsSeen:
    """What a segmenter might show of all images, another in each way."""
    drawn = torch.Generator().manual_seed(len(mode))
    maps = torch.randint(0, CLASSES, (IMAGES, 3, 4), generator=drawn)
    return SegmentsSeen(mode=mode, predicted=tuple(maps))


@pytest.fixture(scope="module")
def total_over(
    observed: tuple[Piece, ...], labels: Tensor, make_batch: Callable[..., Batch]
) -> Callable[..., Sums]:
    """Return a function that measures groups of images one after the other."""

    def measure(study: Study, groups: Sequence[Sequence[int]]) -> Sums:
        total: Sums = {}
        for group in groups:
            batch = make_batch(labels, group)
            for piece in observed:
                if is_for(piece, study):
                    accumulate(total, study.measure(part(piece, batch)))
        return total

    return measure


@pytest.fixture(scope="module")
def whole(total_over: Callable[..., Sums]) -> Callable[[str], list[StudyResult]]:
    """Return a function that gives what a study finds in all images at once, by its options."""
    return cache(
        lambda name: [
            study.summarize(total_over(study, [range(IMAGES)])) for study in options(name)
        ]
    )


def part(piece: Piece, batch: Batch) -> Piece:
    """Return what a piece of all images shows of the batch's images."""
    taken: dict[str, Any] = {
        item.name: value[batch.positions]
        for item in fields(piece)
        if isinstance(value := getattr(piece, item.name), Tensor)
        and item.name not in {"open", "factor"}
    }
    if isinstance(piece, SegmentsSeen):
        taken["predicted"] = tuple(piece.predicted[i] for i in batch.positions.tolist())
    reference = None if piece.reference is None else part(piece.reference, batch)
    if isinstance(piece, LayerSeen | OutputSeen) and piece.changed is not None:
        original = part(piece.changed.original, batch)
        kept = piece.changed.kept[batch.positions]
        taken["changed"] = replace(piece.changed, original=original, kept=kept)
    return replace(piece, batch=batch, reference=reference, **taken)


def options(name: str) -> tuple[Study, ...]:
    return OPTIONS.get(name) or (STUDIES[name](),)


def assert_same(left: StudyResult, right: StudyResult) -> None:
    assert [place(row) for row in left.rows] == [place(row) for row in right.rows]
    for one, other in zip(left.rows, right.rows, strict=True):
        assert one.images == other.images
        for mine, its in zip(numbers(one), numbers(other), strict=True):
            near = mine is None or its is None or exact(one)
            assert mine == its if near else mine == pytest.approx(its, rel=1e-9, abs=1e-9), one
    said = [[(v.name, v.at, v.verdict) for v in findings.verdicts] for findings in (left, right)]
    assert said[0] == said[1]


def place(row: Row) -> tuple[str, dict[str, int | str]]:
    return row.metric, dict(row.at)


def exact(row: Row) -> bool:
    return row.unit in COUNTED and row.value is not None and row.value == int(row.value)


def numbers(row: Row) -> tuple[float | None, float | None, float | None]:
    return row.value, row.low, row.high


def clone(piece: Piece) -> Piece:
    return copy.deepcopy(piece)


def equal(left: Piece, right: Piece) -> bool:
    pairs = [
        (getattr(left, item.name), getattr(right, item.name))
        for item in fields(left)
        if item.name not in {"batch", "reference", "changed"}
    ]
    assert left.batch is not None
    assert right.batch is not None
    pairs += list(zip(vars(left.batch).values(), vars(right.batch).values(), strict=True))
    return all(same(a, b) for a, b in pairs)


def same(left: object, right: object) -> bool:
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return torch.equal(left, right) if isinstance(left, Tensor) else left == right


@every_study
@settings(max_examples=5)
@given(order=st.permutations(range(IMAGES)), cuts=st.sets(st.integers(1, IMAGES - 1), max_size=5))
def test_the_order_and_the_split_of_the_images_do_not_change_the_rows(
    name, total_over, whole, order, cuts
):
    ends = [0, *sorted(cuts), IMAGES]
    groups = [order[start:end] for start, end in pairwise(ends)]
    for study, found in zip(options(name), whole(name), strict=True):
        assert_same(study.summarize(total_over(study, groups)), found)


@every_study
def test_one_image_at_a_time_gives_the_same_rows(name, total_over, whole):
    for study, found in zip(options(name), whole(name), strict=True):
        single = study.summarize(total_over(study, [[i] for i in range(IMAGES)]))
        assert_same(single, found)


@every_study
def test_a_part_of_the_images_is_a_measurement_of_its_own(name, total_over):
    for study in options(name):
        findings = study.summarize(total_over(study, [[3, 17, 5]]))
        assert {row.images for row in findings.rows} <= {0, 1, 2, 3}
        Run(header={}, rows=findings.rows, verdicts=findings.verdicts).to_json()


@every_study
def test_no_image_at_all_is_an_error(name):
    with pytest.raises(ValueError, match=f"{name}.*no image"):
        STUDIES[name]().summarize({})


@every_study
def test_what_is_declared_is_what_is_found(name, whole):
    found = {row.metric for result in whole(name) for row in result.rows}
    assert found == set(STUDIES[name].metrics)


@every_study
def test_rows_carry_the_declared_unit_and_a_reason_where_they_lack_a_number(name, whole):
    for result in whole(name):
        for row in result.rows:
            assert row.unit == STUDIES[name].metrics[row.metric].unit
            assert row.reason or None not in numbers(row)


@every_study
@pytest.mark.parametrize("images", [[3, 17], range(IMAGES)], ids=["two", "all"])
def test_no_estimate_is_outside_its_interval(name, images, total_over):
    for study in options(name):
        rows = study.summarize(total_over(study, [images])).rows
        for row in rows:
            if row.low is not None or row.high is not None:
                assert row.low <= row.value <= row.high, row


@every_study
def test_a_study_is_listed_under_its_name_and_asks_for_something(name):
    assert STUDIES[name].name == name
    assert STUDIES[name].wants


@every_study
def test_findings_survive_the_way_through_json(name, whole):
    found = whole(name)[0]
    run = Run(header={}, rows=found.rows, curves=found.curves, verdicts=found.verdicts)
    assert Run.from_json(run.to_json()) == run


@every_study
def test_measuring_leaves_the_piece_as_it_is(name, observed, labels, make_batch):
    study = options(name)[0]
    for piece in (each for each in observed if is_for(each, study)):
        seen = part(piece, make_batch(labels))
        before = clone(seen)
        study.measure(seen)
        assert equal(seen, before)


@every_study
def test_sums_are_whole_or_double_precision_numbers(name, total_over):
    for study in options(name):
        for key, value in total_over(study, [range(IMAGES)]).items():
            kinds = {torch.float32} if key in FLOAT32 else {torch.int64, torch.float64}
            assert value.dtype in kinds, key


@every_study
def test_records_have_one_entry_per_image_of_the_source(name, total_over):
    for study in options(name):
        for key, value in total_over(study, [[4, 2]]).items():
            if key.startswith("image/"):
                assert len(value) == IMAGES
                assert not value[[i for i in range(IMAGES) if i not in {2, 4}]].any()


@every_study
@pytest.mark.parametrize("broken", [[7], range(IMAGES)], ids=["one image", "all images"])
def test_values_that_are_not_finite_become_no_number(name, broken, observed, labels, make_batch):
    batch = make_batch(labels)
    for study in options(name):
        total: Sums = {}
        for piece in (each for each in observed if is_for(each, study)):
            accumulate(total, study.measure(spoil(part(piece, batch), list(broken))))
        found = study.summarize(total)
        run = Run(header={}, rows=found.rows, curves=found.curves, verdicts=found.verdicts)
        assert "NaN" not in run.to_json()
        assert all(row.reason for row in found.rows if row.value is None)


def spoil(piece: Piece, images: list[int]) -> Piece:
    """Return the piece with NaN in all that a broken model would show of these images."""
    shown = ("used", "softmax", "tokens", "previous", "lens", "rollout", "logits", "features")
    broken = torch.zeros(IMAGES, dtype=torch.bool).index_fill(0, torch.tensor(images), True)
    return replace(
        piece,
        **{
            name: torch.where(broken.reshape(-1, *[1] * (value.ndim - 1)), torch.nan, value)
            for name in shown
            if isinstance(value := getattr(piece, name, None), Tensor)
        },
    )


@pytest.mark.parametrize("name", [n for n, s in STUDIES.items() if s.wants == {"logits"}])
def test_studies_of_logits_take_nothing_from_a_block(name, observed, labels, make_batch):
    block = next(piece for piece in observed if isinstance(piece, LayerSeen))
    assert options(name)[0].measure(part(block, make_batch(labels))) == {}
