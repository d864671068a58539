"""ImageNet's variants and reassessed labels, against what their authors published."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from illama.source_names import CLASS_SUBSETS
from illama.sources import open_source
from illama.sources.head import for_head
from illama.sources.imagenet import imagenet_wnids, variant_indices, variant_of
from illama.sources.numbering import number_folders
from illama.sources.source import LabelError, SourceError, make_source

AUTHORS = {
    "imagenet-a": {0: 6, 1: 11, 50: 307, 100: 496, 150: 780, 199: 988},
    "imagenet-r": {0: 1, 1: 2, 50: 203, 100: 355, 150: 637, 199: 988},
}
"""Place -> index, as in the eval.py of the authors."""


@pytest.mark.parametrize("name", AUTHORS)
def test_the_variants_with_200_classes_have_those_of_their_authors(name):
    indices = variant_indices(name)
    assert len(set(indices)) == 200
    assert list(indices) == sorted(indices)
    assert {place: indices[place] for place in AUTHORS[name]} == AUTHORS[name]
    assert variant_of([imagenet_wnids()[index] for index in indices]) == name


def test_the_other_variants_have_all_classes():
    rest = set(CLASS_SUBSETS) - set(AUTHORS)
    assert rest == {"imagenet-v2", "imagenet-sketch"}
    assert all(variant_indices(name) == tuple(range(1000)) for name in rest)
    assert not variant_of(imagenet_wnids())


def folders(tmp_path, save, names):
    for name in names:
        save(tmp_path / "images" / name / "x.png")
    return str(tmp_path / "images")


def test_a_variants_name_keeps_its_classes_and_labels_stay_indices_of_the_head(tmp_path, save):
    wnids = imagenet_wnids()
    given = folders(tmp_path, save, [wnids[15], wnids[988]])
    source = for_head(open_source(given, class_subset="imagenet-a"), 1000)
    assert source.class_subset == variant_indices("imagenet-a")
    assert source.labels.tolist() == [15, 988]
    with pytest.raises(LabelError, match=r"label 15 of .* is outside the class subset"):
        for_head(open_source(given, class_subset="imagenet-r"), 1000)


def test_a_set_with_a_variants_classes_notes_that_published_numbers_keep_these(tmp_path, save):
    names = [imagenet_wnids()[index] for index in variant_indices("imagenet-r")]
    given = folders(tmp_path, save, names)
    (note,) = for_head(open_source(given), 1000).notes
    assert note.endswith("alone: --class-subset imagenet-r")
    assert not for_head(open_source(given, class_subset="imagenet-r"), 1000).notes


@pytest.mark.parametrize("names", [None, imagenet_wnids()])
def test_the_folders_of_imagenet_v2_are_indices_and_not_in_the_order_of_the_alphabet(names):
    files = sorted(f"{index}/x.jpeg" for index in range(1000))
    numbered = number_folders(files, "imagenet-v2")
    source = make_source(
        name="imagenet-v2",
        split="all",
        names=files,
        labels=numbered.labels,
        classes=numbered.classes,
        contents=files,
        read=lambda _: np.zeros((1, 1, 3), np.uint8),
    )
    source = replace(source, class_subset=variant_indices("imagenet-v2"))
    found = dict(zip(files, for_head(source, 1000, names).labels.tolist(), strict=True))
    assert found == {f"{index}/x.jpeg": index for index in range(1000)}


def reassessed(tmp_path, save, lists, images=None):
    for number in images or range(1, len(lists) + 1):
        save(tmp_path / "val" / f"n0144076{number}" / f"ILSVRC2012_val_{number:08d}.png")
    table = tmp_path / "real.json"
    table.write_text(json.dumps(lists))
    return open_source(str(tmp_path / "val"), labels=table)


def test_reassessed_labels_are_found_by_the_number_of_the_image(tmp_path, save):
    source = reassessed(tmp_path, save, [[7], [], [4, 2, 9], [3, 1]], images=(4, 3, 2, 1))
    numbers = [int(each[-1]) for each in source.ids]
    assert numbers == [1, 3, 4]
    assert source.labels.tolist() == [7, 4, 3]
    assert source.further_labels.tolist() == [[-1, -1], [2, 9], [1, -1]]
    assert [each.files for each in source.left_out] == [1]
    fitted = for_head(source, 1000)
    assert fitted.keep(range(1, 3)).further_labels.tolist() == [[2, 9], [1, -1]]
    with pytest.raises(LabelError, match="the head has 10"):
        for_head(source, 10)


def test_the_fingerprint_tells_reassessed_labels_apart(tmp_path, save):
    first = reassessed(tmp_path, save, [[1, 2], [3]]).fingerprint
    assert reassessed(tmp_path, save, [[1, 4], [3]]).fingerprint != first
    assert reassessed(tmp_path, save, [[1, 2], [3]]).fingerprint == first


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"a": [1]}, "expected a list"),
        ([], "expected a list"),
        ([[1000]], "expected a list"),
        ([[1, 1]], "expected a list"),
        ([1], "expected a list"),
        ([[]], "none of the 1 images has a class"),
    ],
)
def test_other_lists_are_refused(tmp_path, save, lists, message):
    with pytest.raises(SourceError, match=message):
        reassessed(tmp_path, save, lists, images=(1,))


def test_images_of_other_names_and_class_subsets_are_refused(tmp_path, save):
    with pytest.raises(SourceError, match="is not one of ILSVRC2012_val_00000001 to 00000001"):
        reassessed(tmp_path, save, [[1]], images=(2,))
    (tmp_path / "real.json").write_text("[[1], [2]]")
    given = {"labels": tmp_path / "real.json", "class_subset": "imagenet-a"}
    with pytest.raises(SourceError, match="outside of a class subset"):
        open_source(str(tmp_path / "val"), **given)
