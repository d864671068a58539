"""Figures: legible, inert, the same bytes every time, and drawn from whatever there is."""

import io
import itertools
import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text
from msgspec import structs

from illama_eval.render import render_directory
from illama_eval.render.figures.canvas import drawing_style
from illama_eval.render.figures.draw import draw_all, write_figures
from illama_eval.render.samples import Samples, read_samples
from illama_eval.results import ResultError, Run

NAMES = {
    "calibration_reliability",
    "rank_by_layer",
    "rank_singular_values",
    "rank_by_head",
    "collapse_by_layer",
    "attention_samples",
}


SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory, run_of, samples):
    path = tmp_path_factory.mktemp("run")
    run = run_of(layers=2, heads=2, tokens=9)
    (path / "run.json").write_text(run.to_json(), encoding="utf-8")
    arrays = {name: getattr(samples, name) for name in Samples.__dataclass_fields__}
    np.savez(path / "samples.npz", **arrays)
    return path


@pytest.fixture(scope="module")
def rendered(run_directory):
    return {path: path.read_bytes() for path in render_directory(run_directory)}


def drawings(run, samples=None):
    """Return what is drawn, by name, with the texts that a reader sees and their boxes."""
    with drawing_style():
        return {drawing.name: drawing for drawing in draw_all(run, samples)}


def svg_of(drawing):
    stream = io.BytesIO()
    with drawing_style():
        drawing.figure.savefig(stream, format="svg", metadata={"Date": None})
    return ET.fromstring(stream.getvalue())


def test_equal_runs_give_equal_bytes(run_directory, rendered, tmp_path):
    drawings = draw_all(Run.load(run_directory), read_samples(run_directory))
    again = write_figures(drawings, tmp_path)
    figures = {path.name: content for path, content in rendered.items() if "figures" in path.parts}
    assert {path.name: path.read_bytes() for path in again} == figures


def test_every_figure_is_written_twice_and_has_a_caption(run_directory, rendered):
    for suffix in (".png", ".svg"):
        assert {path.stem for path in rendered if path.suffix == suffix} == NAMES
    captions = json.loads((run_directory / "figures" / "captions.json").read_text("utf-8"))
    assert set(captions) == NAMES
    assert all(entry["title"] and entry["caption"] for entry in captions.values())


def test_files_hold_no_date_and_no_program(rendered):
    for path, content in rendered.items():
        if path.suffix == ".png":
            assert b"matplotlib" not in content.lower()
            assert imread(io.BytesIO(content)).shape[1] <= 7.3 * 200
        assert b"dc:date" not in content


def test_text_stays_text(run_directory, rendered):
    captions = json.loads((run_directory / "figures" / "captions.json").read_text("utf-8"))
    for path, content in rendered.items():
        if path.suffix == ".svg":
            texts = ET.fromstring(content).findall(f".//{SVG}text")
            assert captions[path.stem]["title"] in {"".join(text.itertext()) for text in texts}


@pytest.mark.parametrize(
    "shape",
    [
        {"layers": 1, "heads": 1, "tokens": 5},
        {"layers": 5, "heads": 2, "tokens": 197, "subjects": ("causal", "M" * 60)},
        {"layers": 2, "heads": 12, "tokens": 197},
        {"layers": 1, "heads": 1, "subjects": tuple("abc")},
    ],
)
def test_no_text_is_cut_or_covers_another(texts_of, run_of, samples, shape):
    for name, drawing in drawings(run_of(**shape), samples).items():
        sheet = drawing.figure.bbox
        assert all(text.get_fontsize() >= 8 for text in drawing.figure.findobj(Text))
        texts = texts_of(drawing.figure)
        for text, box in texts:
            assert box.x0 > -0.5, (name, text)
            assert box.y0 > -0.5, (name, text)
            assert box.x1 < sheet.width + 0.5, (name, text)
            assert box.y1 < sheet.height + 0.5, (name, text)
        for (one, a), (other, b) in itertools.combinations(texts, 2):
            across = min(a.x1, b.x1) - max(a.x0, b.x0)
            down = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert across < 1 or down < 1, (name, one, other)


def test_hostile_names_stay_text_in_every_figure(run_of, hostile_names, samples):
    some = [name for name in hostile_names if "$" in name or "\N{PILE OF POO}" in name]
    run = run_of(layers=1, heads=1, tokens=5, subjects=some)
    header = dict(run.header) | {"source": {"classes": hostile_names}}
    hostile = replace(samples, ids=hostile_names[:2])
    for drawing in drawings(replace(run, header=header), hostile).values():
        svg_of(drawing)


def test_a_run_of_one_study_draws_only_its_figures(run_of):
    run = run_of()
    for study, expected in {"rank": 3, "calibration": 1, "collapse": 1, "accuracy": 0}.items():
        rows = tuple(row for row in run.rows if row.study == study)
        curves = run.curves if study == "rank" else ()
        assert len(drawings(Run(header={}, rows=rows, curves=curves))) == expected
    assert drawings(Run(header={}, rows=())) == {}


def test_undefined_values_leave_gaps(texts_of, run_of):
    run = run_of()
    rows = tuple(
        structs.replace(row, value=None, low=None, high=None, reason="undefined") if row.at else row
        for row in run.rows
    )
    assert drawings(replace(run, rows=rows)).keys() == NAMES - {
        "attention_samples",
        "calibration_reliability",
    }
    half = tuple(
        structs.replace(row, value=None)
        if row.at.get("head") == 1 or row.at.get("layer") == 2
        else row
        for row in run.rows
    )
    for drawing in drawings(replace(run, rows=half)).values():
        texts_of(drawing.figure)


@pytest.mark.parametrize("damage", ["truncated", "no zip", "pickled", "wrong shapes", "no ids"])
def test_damaged_samples_are_refused_in_one_line(run_directory, tmp_path, damage):
    path = tmp_path / "samples.npz"
    path.write_bytes((run_directory / "samples.npz").read_bytes())
    with np.load(path) as archive:
        arrays = dict(archive)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "no zip":
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    elif damage == "pickled":
        np.savez(path, **(arrays | {"ids": np.array([{}, {}], dtype=object)}))
    elif damage == "wrong shapes":
        np.savez(path, **(arrays | {"attention": arrays["attention"][:1]}))
    else:
        np.savez(path, images=arrays["images"], attention=arrays["attention"])
    with pytest.raises(ResultError, match=r"samples\.npz: no readable samples") as caught:
        read_samples(tmp_path)
    assert "\n" not in str(caught.value)
