from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from illama.sources import open_source
from illama.sources.ade20k import reduce_zero_label
from illama.sources.source import SourceError
from illama.transforms import ImageError


def test_the_zero_label_is_reduced_once(write_ade, tmp_path):
    assert reduce_zero_label(np.array([[0, 1, 150]], np.uint8)).tolist() == [[255, 0, 149]]
    with pytest.raises(ImageError, match="label 151 is above 150"):
        reduce_zero_label(np.array([[151]], np.uint8))
    source = open_source(str(write_ade(tmp_path)))
    image, mask = source.read_pair(1)
    assert image.shape[:2] == mask.shape == (20, 28)
    assert sorted(set(mask.ravel().tolist())) == [0, 1, 255]
    assert len(source.mask_classes) == 150
    assert source.limit(2, 0).read_pair(0)[1].shape[0] == 20


def test_missing_and_unfit_masks_are_refused(write_ade, tmp_path):
    root = write_ade(tmp_path)
    Image.fromarray(np.ones((3, 3), np.uint8)).save(root / "annotations" / "validation" / "0.png")
    with pytest.raises(ImageError, match="the image has 24 x 20 pixels, its mask 3 x 3"):
        open_source(str(root)).read_pair(0)
    (root / "annotations" / "validation" / "0.png").unlink()
    with pytest.raises(SourceError, match=r"1 of 4 images have no mask \(first: '0.png'\)"):
        open_source(str(root))
