from __future__ import annotations

from illama_eval.transfer.splits import open_split


def test_images_without_labels_or_with_other_classes_make_no_pair():
    pair = open_split("digits")
    assert (len(pair.train), len(pair.test), pair.classes) == (1438, 359, 10)
    assert not set(pair.train.ids) & set(pair.test.ids)
    assert open_split("digits", train_data="digits").train.fingerprint == pair.train.fingerprint
