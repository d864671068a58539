from __future__ import annotations

from illama_eval.cue_conflict import ENTRY_LEVEL
from illama_eval.render.figures.shape_bias import read_published

THREE = tuple((name, (index,)) for index, name in enumerate("abc"))


def test_the_published_decisions_are_the_known_ones():
    published = {each["name"]: each["decisions"] for each in read_published()["observers"]}
    totals = {
        name: tuple(map(sum, zip(*counts.values(), strict=True)))
        for name, counts in published.items()
    }
    assert totals == {
        "10 people": (9236, 398),
        "AlexNet": (283, 376),
        "GoogLeNet": (228, 503),
        "VGG-16": (130, 625),
        "ResNet-50": (162, 572),
    }
    assert all(set(counts) == set(ENTRY_LEVEL) for counts in published.values())
