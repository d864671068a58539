from __future__ import annotations

from pathlib import Path

import numpy as np

from illama.sources import hash_order, open_source
from illama_eval.run.samples import write_segments
from illama_eval.subjects.segmenter import SegmenterSubject


def test_samples_hold_eight_images_and_a_map_per_layer(whole: Path) -> None:
    with np.load(whole / "samples.npz") as samples:
        assert samples["images"].shape == (8, 64, 64, 3)
        assert samples["attention"].shape == (8, 3, 4, 4)
        assert (samples["attention"].max((2, 3)) == 255).all()


def test_segments_hold_the_images_of_smallest_hash_with_both_masks(
    segmenter_subject: SegmenterSubject, tmp_path: Path
) -> None:
    source = open_source("demo-shapes").limit(3, 0)
    write_segments(segmenter_subject, source, tmp_path)
    first = int(np.argsort(hash_order(source.ids))[0])
    image, mask = source.read_pair(first)
    with np.load(tmp_path / "segments.npz") as kept:
        assert len(kept.files) == 9
        assert np.array_equal(kept["image0"], image)
        assert np.array_equal(kept["mask0"], mask)
        assert kept["predicted2"].shape == kept["mask2"].shape
