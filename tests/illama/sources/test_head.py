from __future__ import annotations

import numpy as np
import pytest

from illama.sources.head import for_head
from illama.sources.source import LabelError, make_source


def source_of(classes, **changes):
    given = {
        "name": "set",
        "split": "all",
        "names": [f"{name}/{i}" for i, name in enumerate(classes)],
        "labels": np.arange(len(classes)),
        "classes": classes,
        "contents": [str(i) for i in range(len(classes))],
        "read": lambda _: np.zeros((1, 1, 3), np.uint8),
        "numbered": "alphabetically",
    }
    return make_source(**(given | changes))


def test_classes_are_matched_by_name_whatever_their_order():
    source = for_head(source_of(("arrow", "circle", "ring")), 3, ("circle", "ring", "arrow"))
    assert source.labels.tolist() == [2, 0, 1]
    assert source.classes == ("circle", "ring", "arrow")
    assert source.notes == ()
    assert for_head(source, 3, source.classes).labels is source.labels


def test_a_set_may_lack_classes_of_the_head():
    head = tuple("abcdefghij")
    assert for_head(source_of(("j", "c")), 10, head).labels.tolist() == [9, 2]


def test_names_may_differ_in_case_and_separators_and_a_note_says_so():
    source = for_head(source_of(("Polar_Bear", "dog")), 2, ("dog", "polar bear"))
    assert source.labels.tolist() == [1, 0]
    (note,) = source.notes
    assert note.startswith("1 of 2 class names of set match the head's but for case and separators")
    assert note.endswith("such as 'Polar_Bear' and 'polar bear'")
    exact = for_head(source_of(("A", "a")), 2, ("a", "A"))
    assert (exact.labels.tolist(), exact.notes) == ([1, 0], ())


@pytest.mark.parametrize(
    ("own", "head", "said"),
    [
        (("a b", "c"), ("A b", "a-b", "c"), "'a b' fits several of the head's \\('A b', 'a-b'\\)"),
        (("a", "A"), ("a", "b"), "'A' and 'a' both fit the head's 'a'|'a' and 'A' both fit"),
        (("a", "x", "y"), ("a", "b", "c"), "2 of its 3 classes are not .* \\('x', 'y'; the head"),
        (("a", "b"), ("a", "b", "c", "d")[:1], "1 of its 2 classes are not"),
        (("Test", "Train"), None, "has 2 classes \\('Test', 'Train'\\), the head has 3"),
    ],
)
def test_names_that_fit_no_class_or_several_are_refused(own, head, said):
    with pytest.raises(LabelError, match=said):
        for_head(source_of(own), len(head) if head else 3, head)


def test_an_order_that_nothing_confirms_is_noted():
    source = for_head(source_of(("arrow", "circle", "ring")), 3)
    assert source.labels.tolist() == [0, 1, 2]
    (note,) = source.notes
    assert "numbered alphabetically: arrow = 0, circle = 1, ..., ring = 2; the head has no" in note
    assert for_head(source_of(("a", "b"), numbered=""), 2).notes == ()


def test_labels_left_out_stay_in_the_fingerprint():
    source = source_of(("a", "b"))
    without = source.without_labels("why")
    assert (without.labels, without.classes, without.notes) == (None, None, ("why",))
    assert without.fingerprint == source.fingerprint
    assert without.limit(1, 0).fingerprint == source.limit(1, 0).fingerprint
