"""Labels and heads: matched by name, left out with a note, or refused where they are needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from illama.sources.demo import SHAPES, draw
from illama.sources.source import LabelError, make_source
from illama_eval.commands.labels import fit_labels, left_out_notes, order_difference
from illama_eval.results import Run
from illama_eval.studies.accuracy import Accuracy
from illama_eval.studies.rank import Rank


@dataclass
class Head:
    name: str
    class_names: list[str] | None
    classes: int = 3

    def describe(self) -> dict[str, object]:
        return {"class_names": self.class_names}


def source_of(classes=("a", "b", "c")):
    return make_source(
        name="set",
        split="all",
        names=list(classes),
        labels=np.arange(len(classes)),
        classes=classes,
        contents=list(classes),
        read=lambda _: np.zeros((1, 1, 3), np.uint8),
        numbered="alphabetically",
    )


def test_heads_without_names_take_the_order_of_the_one_that_has_some():
    named, bare = Head("named", ["c", "a", "b"]), Head("bare", None)
    for heads in ((named, bare), (bare, named)):
        source = fit_labels(source_of(), heads, needed=True)
        assert source.labels.tolist() == [1, 2, 0]
        assert source.notes == (
            "bare has no class names; its classes are taken in the order of named's",
        )


def test_heads_that_number_their_classes_differently_are_not_measured_together():
    heads = Head("one", ["a", "b", "c"]), Head("two", ["a", "c", "b"])
    assert (
        order_difference(heads) == "one and two number their classes differently (1 is 'b' and 'c')"
    )
    with pytest.raises(LabelError, match=r"one and two number .*; measure them one by one"):
        fit_labels(source_of(), heads, needed=True)
    assert order_difference((heads[0], Head("bare", None))) == ""


def test_labels_that_do_not_fit_are_left_out_unless_they_are_needed():
    heads, source = (Head("one", None, 7),), source_of()
    with pytest.raises(LabelError, match="set has 3 classes"):
        fit_labels(source, heads, needed=True)
    without = fit_labels(source, heads, needed=False)
    assert without.labels is None
    assert without.notes[0].startswith("labels are left out: set has 3 classes ('a', 'b', 'c')")
    assert without.fingerprint == source.fingerprint
    (note,) = left_out_notes([Accuracy(), Rank()], without)
    assert note.startswith("left out: accuracy; it needs labels, which this source lacks")


def test_the_demo_in_folders_by_name_is_as_good_as_the_demo(command, undrawn, tmp_path):
    drawn = draw("test", 100)
    for number, (image, label) in enumerate(zip(drawn.images, drawn.labels, strict=True)):
        path = tmp_path / "shapes" / SHAPES[label].upper() / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (tmp_path / "shapes" / "CIRCLE" / "notes.heic").write_bytes(b"")
    words = ("--data", "shapes", "--out", "run", "--no-samples")
    code, _, err = command("accuracy", *words)
    said = " ".join(err.split())
    assert code == 0
    assert "shapes: 100 images, 10 classes of 10 (ARROW ... TRIANGLE)" in said
    assert "1 files left out: 1 .heic (first CIRCLE/notes.heic)" in said
    assert "10 of 10 class names of shapes match the head's but for case" in said
    run = Run.load(tmp_path / "run")
    assert run.value("accuracy", "top1").value >= 0.95
    assert run.header["source"]["left_out"][0]["kind"] == ".heic"
    assert len(run.header["source"]["notes"]) == 1


def test_rank_drops_labels_that_accuracy_refuses(command, undrawn, tmp_path):
    for number in range(2):
        path = tmp_path / "images" / f"class{number}" / "x.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((32, 32, 3), number, np.uint8)).save(path)
    code, _, err = command("accuracy", "--data", "images", "--out", "run")
    assert (code, err.count("\n")) == (3, 1)
    assert "2 of its 2 classes are not among the head's 10 ('class0', 'class1';" in err
    code, _, err = command("rank", "--data", "images", "--out", "run", "--no-samples")
    assert code == 0
    assert "labels are left out: images: 2 of its 2 classes" in " ".join(err.split())
