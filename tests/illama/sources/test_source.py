from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from illama.sources import SOURCES, open_source
from illama.sources.contents import hash_pixels
from illama.sources.head import for_head
from illama.sources.imagenet import imagenet_wnids
from illama.sources.source import Source, SourceError, hash_order, make_source

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
IDS = st.lists(st.text("ab/\u00e9\n0", min_size=1), min_size=1, max_size=20, unique=True)


def source_of(ids: list[str], labels: list[int] | None = None, **changes: object) -> Source:
    options = {
        "name": "set",
        "split": "all",
        "names": ids,
        "labels": None if labels is None else np.array(labels, np.int64),
        "contents": list(range(len(ids))),
        "read": lambda position: np.full((1, 1, 3), position, np.uint8),
    }
    return make_source(**(options | changes))


@given(IDS, st.randoms(use_true_random=False), st.integers(0, 3), st.integers(1, 30))
def test_a_limit_keeps_the_same_ids_whatever_their_order(ids, random, seed, images):
    shuffled = random.sample(ids, len(ids))
    kept = source_of(ids).limit(images, seed)
    assert set(kept.ids) == set(source_of(shuffled).limit(images, seed).ids)
    assert len(kept) == min(images, len(ids))
    assert list(kept.ids) == [each for each in ids if each in set(kept.ids)]


@given(IDS, st.integers(1, 30), st.integers(1, 30))
def test_limits_nest(ids, few, many):
    few, many = sorted((few, many))
    twice, once = source_of(ids).limit(many, 0).limit(few, 0), source_of(ids).limit(few, 0)
    assert twice.ids == once.ids
    assert twice.fingerprint == once.fingerprint


@given(IDS)
def test_ranks_count_up_from_zero_and_depend_on_the_seed_alone(ids):
    rank = hash_order(ids, 1)
    assert rank.dtype == np.int64
    assert sorted(rank) == list(range(len(ids)))
    assert (hash_order(ids[::-1], 1)[::-1] == rank).all()


def test_the_ranks_are_the_recorded_ones():
    assert hash_order([f"test/{i:05d}" for i in range(8)]).tolist() == [3, 7, 6, 2, 0, 4, 5, 1]


def test_a_limited_source_reads_the_images_it_kept():
    source = source_of([str(i) for i in range(20)], [i % 3 for i in range(20)]).limit(7, 5)
    for position, each in enumerate(source.ids):
        assert source.read(position)[0, 0, 0] == int(each)
        assert source.labels[position] == int(each) % 3


def test_a_limit_of_nothing_is_refused_and_one_of_all_changes_nothing():
    source = source_of(["a", "b"])
    assert source.limit(2, 0) is source
    with pytest.raises(SourceError, match="leaves nothing"):
        source.limit(0, 0)


def test_the_fingerprint_follows_ids_labels_and_contents_but_not_the_order():
    source = source_of(["a", "b"], [0, 1])
    same = source_of(["b", "a"], [1, 0], contents=[1, 0])
    others = [
        source_of(["a", "c"], [0, 1]),
        source_of(["a", "b"], [0, 0]),
        source_of(["a", "b"], [0, 1], contents=[0, 2]),
        source_of(["a", "b"]),
    ]
    assert same.fingerprint == source.fingerprint
    assert len({each.fingerprint for each in (source, *others)}) == 5


def test_images_in_memory_are_hashed_when_they_are_asked_for_and_once():
    read = []

    class Images(list):
        def __getitem__(self, position):
            read.append(position)
            return super().__getitem__(position)

    images = Images(np.full((2, 2, 3), value, np.uint8) for value in range(4))
    source = source_of([*"abcd"], contents=hash_pixels(images))
    kept = source.keep(np.array([2, 0]))
    expected = [hashlib.sha256(bytes([value] * 12)).hexdigest() for value in (2, 0)]
    assert kept.contents == (*expected,)
    assert read == [2, 0]
    assert source.contents[::2] == (expected[1], expected[0])
    assert sorted(read) == [0, 1, 2, 3]


def test_images_of_two_sources_are_the_same_by_content_not_by_id():
    source = source_of(["a", "b", "c"], contents=["1", "2", ""])
    other = source_of(["a", "x", "c"], contents=["3", "2", ""])
    assert source.find_shared(other) == ["b"]
    assert other.find_shared(source) == ["x"]


def test_sources_survive_the_way_to_a_worker(tmp_path, save):
    save(tmp_path / "a" / "x.png", 7)
    save(tmp_path / "b" / "y.png", 8)
    for source in (open_source(str(tmp_path)), open_source("photos")):
        read = pickle.loads(pickle.dumps(source.limit(1, 0).read))
        assert (read(0) == source.limit(1, 0).read(0)).all()


def test_background_is_made_of_the_named_classes_of_the_masks():
    shapes = open_source("demo-shapes")
    assert shapes.background == (0,)
    assert shapes.limit(3, 0).background == (0,)
    named = shapes.with_background(["none", "star", "background"])
    assert named.background == (0, shapes.mask_classes.index("star"), 255)
    assert named.notes == ("background: none, star, background of its masks",)
    with pytest.raises(
        SourceError, match=r"no class 'sky' of pixels; there are background \.\.\. "
    ):
        shapes.with_background(["sky"])
    with pytest.raises(SourceError, match="digits has no masks, so no background; use an ADE20K"):
        open_source("digits").with_background(["none"])


def test_two_images_of_one_id_and_no_images_are_refused():
    with pytest.raises(SourceError, match="have the id 'a'"):
        source_of(["a", "a"])
    with pytest.raises(SourceError, match="no images"):
        source_of([])


def test_as_many_classes_as_the_head_has_are_asked_for():
    eleven = source_of(["a"], [10], classes=[f"class {i}" for i in range(11)])
    assert for_head(eleven, 11).labels.tolist() == [10]
    for head in (10, 12, 1000):
        with pytest.raises(SourceError, match=rf"11 classes \(.* 6 more\), the head has {head};"):
            for_head(eleven, head)


@pytest.mark.parametrize("labels", [[0, 10], [-1, 3]])
def test_a_label_outside_the_head_is_refused_and_named(labels):
    with pytest.raises(
        SourceError, match=rf"label {next(i for i in labels if i not in range(10))} of"
    ):
        for_head(source_of(["a", "b"], labels), 10)


def test_unlabeled_images_fit_every_head():
    assert for_head(source_of(["a"]), 3).labels is None


def test_wordnet_ids_are_mapped_to_the_thousand_indices():
    wnids = imagenet_wnids()
    source = source_of(["a", "b"], [0, 1], classes=[wnids[7], wnids[990]])
    mapped = for_head(source, 1000)
    assert mapped.labels.tolist() == [7, 990]
    assert mapped.classes == wnids
    assert for_head(mapped, 1000).fingerprint == mapped.fingerprint
    assert mapped.limit(1, 0).fingerprint == for_head(source.limit(1, 0), 1000).fingerprint
    assert for_head(source, 2).labels is source.labels
    with pytest.raises(SourceError, match="1 of its 2 classes are not among"):
        for_head(replace(source, classes=(wnids[7], "n00000000")), 1000)


def test_the_thousand_wordnet_ids_are_sorted_and_distinct():
    wnids = imagenet_wnids()
    assert len(set(wnids)) == 1000
    assert list(wnids) == sorted(wnids)
    assert (wnids[0], wnids[207], wnids[999]) == ("n01440764", "n02099601", "n15075141")


def subset_file(folder: Path, text: str) -> Path:
    path = folder / "subset.txt"
    path.write_text(text)
    return path


def test_a_class_subset_numbers_the_classes_of_a_folder(tmp_path, save):
    for name in ("cat", "dog"):
        save(tmp_path / "images" / name / "x.png")
    subset = subset_file(tmp_path, "4\n2\n")
    source = open_source(str(tmp_path / "images"), class_subset=subset)
    assert source.class_subset == (4, 2)
    assert for_head(source, 5).labels.tolist() == [4, 2]
    with pytest.raises(SourceError, match="index 4 is outside the head of 4"):
        for_head(source, 4)


def test_a_class_subset_of_wordnet_ids_must_hold_the_folders(tmp_path, save):
    wnids = imagenet_wnids()
    for index in (3, 5):
        save(tmp_path / "images" / wnids[index] / "x.png")
    for kept, fits in (((3, 5, 9), True), ((3, 9), False)):
        subset = subset_file(tmp_path, "\n".join(wnids[index] for index in kept))
        source = open_source(str(tmp_path / "images"), class_subset=subset)
        assert source.class_subset == kept
        if fits:
            assert for_head(source, 1000).labels.tolist() == [3, 5]
        else:
            with pytest.raises(SourceError, match="outside the class subset"):
                for_head(source, 1000)


@pytest.mark.parametrize("text", ["", "1\n1\n", "one\n", "-1\n"])
def test_class_subsets_that_make_no_sense_are_refused(tmp_path, text):
    with pytest.raises(SourceError, match="class subset"):
        open_source("photos", class_subset=subset_file(tmp_path, text))
    with pytest.raises(SourceError, match="cannot be read"):
        open_source("photos", class_subset=tmp_path / "gone.txt")


def test_every_name_is_listed_with_what_it_is():
    assert {"demo", "digits", "photos", "cifar10", "cifar100"} <= set(SOURCES)
    assert all("\n" not in line for line in SOURCES.values())


def test_what_cannot_be_opened_is_refused_in_one_line(tmp_path):
    (tmp_path / "set.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "empty").mkdir()
    for spec, message in (
        ("nowhere", "does not exist"),
        ("set.tar.gz", "unpack other archives"),
        ("empty", "has no images"),
    ):
        with pytest.raises(SourceError, match=message) as caught:
            open_source(str(tmp_path / spec))
        assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match="has its own labels"):
        open_source("demo", labels=tmp_path / "labels.csv")


@pytest.mark.data
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_the_imagenet_sample_is_numbered_by_tens():
    source = open_source(str(SHARED / "imagenet_sample"))
    assert for_head(source, 1000).labels.tolist() == list(range(0, 1000, 10))
    assert source.labels.tolist() == list(range(100))
    assert all(source.read(i).shape[2] == 3 for i in range(0, 100, 20))
