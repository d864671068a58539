"""Figures: legible, inert, the same bytes every time, and drawn from whatever there is."""

import io
import itertools
import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.image import imread
from matplotlib.text import Text
from matplotlib.textpath import TextToPath
from msgspec import structs

from illama_eval.render import render_directory
from illama_eval.render.figures.accuracy import draw_accuracy
from illama_eval.render.figures.attention import draw_samples
from illama_eval.render.figures.calibration import reliability_of
from illama_eval.render.figures.canvas import drawing_style, spread
from illama_eval.render.figures.draw import draw_all
from illama_eval.render.figures.rank import draw_rank_by_head
from illama_eval.render.samples import Samples, read_samples
from illama_eval.render.style import palette
from illama_eval.render.style.fonts import FAMILY, drawable, text_width, wrap
from illama_eval.results import ResultError, Row, Run

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
def samples():
    random = np.random.default_rng(0)
    return Samples(
        ids=["test/00017", "test/00018"],
        images=random.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8),
        attention=random.integers(0, 256, (2, 2, 4, 4), dtype=np.uint8),
        labels=[3, 5],
        predictions=[3, 0],
    )


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


def texts_of(figure):
    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    unseen = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            drawn = axis._update_ticks() if axes.axison else []
            unseen |= {tick.label1 for tick in axis.get_major_ticks()}
            unseen -= {tick.label1 for tick in drawn}
    found = [text for text in figure.findobj(Text) if text.get_visible() and text not in unseen]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in found]
    return [(text, box) for text, box in boxes if text.strip() and box.width > 0]


def svg_of(drawing):
    stream = io.BytesIO()
    with drawing_style():
        drawing.figure.savefig(stream, format="svg", metadata={"Date": None})
    return ET.fromstring(stream.getvalue())


def test_equal_runs_give_equal_bytes(run_directory, rendered):
    assert {path: path.read_bytes() for path in render_directory(run_directory)} == rendered


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
def test_no_text_is_cut_or_covers_another(run_of, samples, shape):
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


def test_every_hostile_name_is_a_line_in_an_svg(run_of, hostile_names):
    run = run_of(subjects=hostile_names)
    with drawing_style():
        drawing = next(draw_accuracy(run))
    root = svg_of(drawing)
    assert {child.tag for child in root.iter()} <= {
        *(f"{SVG}{tag}" for tag in ("svg", "defs", "style", "g", "path", "text", "use", "rect")),
        *(child.tag for child in root.find(f"{SVG}metadata").iter()),
        *(f"{SVG}{tag}" for tag in ("clipPath", "tspan", "title", "desc")),
    }
    lines = {"".join(text.itertext()) for text in root.findall(f".//{SVG}text")}
    assert {drawable(name, 28) for name in hostile_names} <= lines


def test_a_run_of_one_study_draws_only_its_figures(run_of):
    run = run_of()
    for study, expected in {"rank": 3, "calibration": 1, "collapse": 1, "accuracy": 0}.items():
        rows = tuple(row for row in run.rows if row.study == study)
        curves = run.curves if study == "rank" else ()
        assert len(drawings(Run(header={}, rows=rows, curves=curves))) == expected
    assert drawings(Run(header={}, rows=())) == {}


def test_undefined_values_leave_gaps(run_of):
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


def test_empty_bins_are_not_drawn():
    def rows(number, images, confidence, accuracy):
        at = {"bin": number}
        values = {"bin_images": images, "bin_confidence": confidence, "bin_accuracy": accuracy}
        return [
            Row(study="calibration", metric=metric, value=value, images=9, at=at)
            for metric, value in values.items()
        ]

    run = Run(header={}, rows=(*rows(1, 0.0, None, None), *rows(15, 9.0, 0.97, 1.0)))
    ((name, look),) = palette.looks_of(run)
    found = reliability_of(run, name, look)
    assert [(one.number, one.images, one.confidence) for one in found.all] == [(15, 9, 97)]
    assert found.means == {"accuracy": 100}


def test_ranks_share_one_absolute_scale(run_of):
    run = run_of(layers=2, heads=2, tokens=65, subjects=("a", "b"))
    with drawing_style():
        sheets = list(draw_rank_by_head(run))
    assert [sheet.name for sheet in sheets] == ["rank_by_head", "rank_by_head-2"]
    for sheet in sheets:
        for axes in sheet.figure.axes[:-1]:
            (mesh,) = axes.collections
            assert (mesh.norm.boundaries[0], mesh.norm.boundaries[-1]) == (1, 65)


def test_a_subject_keeps_its_look_and_more_than_five_are_grey(run_of):
    def looks(count):
        run = run_of(layers=1, heads=1, tokens=5, subjects=[f"s{n}" for n in range(count)])
        return [(look.colour, look.marker) for _, look in palette.looks_of(run)]

    assert looks(1) == looks(2)[1:]
    assert looks(3) == looks(5)[:3]
    assert len(set(looks(5))) == 5
    assert len(set(looks(6))) == 2


def test_colours_are_told_from_the_paper_and_text_can_be_read():
    def luminance(colour):
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        ]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    def contrast(one, other):
        dark, light = sorted((luminance(one), luminance(other)))
        return (light + 0.05) / (dark + 0.05)

    for colour, _ in palette.RUNS:
        assert contrast(colour, palette.PAPER) >= 3
    for colour in (palette.TEXT, palette.MUTED):
        assert contrast(colour, palette.PAPER) >= 4.5
    for cell, text in zip(palette.SEQUENTIAL, palette.ON_SEQUENTIAL, strict=True):
        assert contrast(cell, text) >= 4.5


def test_what_stands_beside_a_sample_does_not_cover_it(run_of, samples):
    long = replace(samples, ids=["m" * 300, "n01440764_tench"], labels=[1, 2], predictions=[2, 2])
    run = run_of(layers=1, heads=1, tokens=5)
    run = replace(
        run, header={"source": {"classes": ["a", "harvestman, daddy longlegs", "w" * 40]}}
    )
    with drawing_style():
        (drawing,) = draw_samples(run, long)
        (axes,) = drawing.figure.axes
        boxes = [box for text, box in texts_of(drawing.figure) if "\n" in text and box.y0 > 80]
    assert len(boxes) == 2
    assert all(0 < box.x0 < box.x1 < axes.bbox.x0 for box in boxes)


def test_samples_of_any_size_fit_their_patch_grid(run_of):
    for side, grid in ((224, 14), (30, 7), (8, 8), (5, 2)):
        sample = Samples(
            ids=["x"],
            images=np.full((1, side, side, 3), 9, np.uint8),
            attention=np.zeros((1, 3, grid, grid), np.uint8),
        )
        with drawing_style():
            (drawing,) = draw_samples(run_of(layers=1, heads=1, tokens=5), sample)
            texts_of(drawing.figure)
        assert f"of {grid * grid} patches" in drawing.caption


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


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12).map(sorted), st.floats(0.001, 0.08))
def test_labels_are_moved_apart_and_keep_their_order(places, gap):
    moved = spread(places, gap)
    assert all(later - sooner >= gap * 0.999 for sooner, later in itertools.pairwise(moved))
    assert min(moved) > -1e-9
    assert max(moved) < 1 + 1e-9
    if all(later - sooner >= gap for sooner, later in itertools.pairwise(places)):
        assert moved == pytest.approx(places)


@given(st.text(max_size=60), st.floats(4, 20))
def test_a_line_is_as_wide_as_matplotlib_sets_it(text, size):
    text = drawable(f"To. AV, {text}")
    font = FontProperties(family=FAMILY, size=size)
    width, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    assert text_width(text, size) == pytest.approx(1.02 * width / 72)


@given(st.text(max_size=60))
def test_wrapped_lines_fit_and_lose_no_letter(text):
    text = drawable(text)
    lines = wrap(text, 8, 0.8)
    assert all(text_width(line, 8) <= 0.8 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
