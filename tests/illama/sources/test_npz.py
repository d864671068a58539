from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from illama.sources import open_source
from illama.sources.source import SourceError


def save_npz(path: Path, **arrays: object) -> str:
    np.savez(path, **arrays)
    return str(path)


IMAGES = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)


def test_arrays_bring_images_labels_and_ids(tmp_path):
    path = save_npz(tmp_path / "set.npz", images=IMAGES, labels=[2, 0, 1], ids=["a", "b", "c"])
    source = open_source(path)
    assert (source.name, source.ids, source.in_memory) == ("set", ("a", "b", "c"), True)
    assert source.labels.tolist() == [2, 0, 1]
    assert (source.read(1) == IMAGES[1]).all()
    bare = open_source(save_npz(tmp_path / "bare.npz", images=IMAGES))
    assert (bare.ids, bare.labels) == (("00000", "00001", "00002"), None)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": [1]}, "found nothing"),
        ({"images": IMAGES.astype(float)}, "found float64"),
        ({"images": IMAGES[..., 0]}, r"found uint8 \[3, 4, 5\]"),
        ({"images": IMAGES[:0]}, "no images"),
        ({"images": np.zeros((1, 1, 51, 3), np.uint8)}, "aspect ratio"),
        ({"images": IMAGES, "labels": [1.5, 0, 0]}, "found float64"),
        ({"images": IMAGES, "labels": [1, 2]}, r"found int64 \[2\]"),
        ({"images": IMAGES, "ids": ["a", "b"]}, "'ids' strings"),
        ({"images": IMAGES, "ids": ["a", "b", "a"]}, "have the id 'a'"),
        ({"images": IMAGES, "labels": np.array([{}] * 3, object)}, "plain arrays"),
    ],
)
def test_arrays_of_other_types_or_shapes_are_refused(tmp_path, arrays, message):
    with pytest.raises(SourceError, match=message):
        open_source(save_npz(tmp_path / "set.npz", **arrays))


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_damaged_arrays_are_refused(tmp_path, keep):
    path = Path(save_npz(tmp_path / "set.npz", images=IMAGES))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceError, match="plain arrays"):
        open_source(str(path))
