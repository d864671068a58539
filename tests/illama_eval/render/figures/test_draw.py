"""Figures: legible, inert, the same bytes every time, and drawn from whatever there is."""

import io
import itertools
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text
from msgspec import structs

from illama_eval.render import render_directory, write_report
from illama_eval.render.figures.draw import draw_all, write_figures
from illama_eval.render.samples import Samples, read_samples
from illama_eval.render.style.figure import PAGE, FigureStyle, drawing_style
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
    """Return what `report --figures` writes: the figures as PNG, too."""
    return {path: path.read_bytes() for path in write_report([run_directory], figures=PAGE)}


def drawings(run, samples=None, style=PAGE):
    """Return what is drawn, by name."""
    stored = {} if samples is None else {run.rows[0].subject: samples}
    with drawing_style(style):
        return {drawing.name: drawing for drawing in draw_all(run, stored)}


def svg_of(drawing):
    stream = io.BytesIO()
    with drawing_style():
        drawing.figure.savefig(stream, format="svg", metadata={"Date": None})
    return ET.fromstring(stream.getvalue())


def test_every_figure_is_written_twice_with_its_caption_as_text(rendered):
    for suffix in (".png", ".svg"):
        assert {path.stem for path in rendered if path.suffix == suffix} == NAMES
    words = {
        path.stem: text.decode("utf-8") for path, text in rendered.items() if path.suffix == ".txt"
    }
    assert words.keys() == NAMES
    assert all(". " in each and each.endswith(".\n") for each in words.values())


def test_equal_runs_give_equal_bytes(run_directory, rendered, tmp_path):
    run = Run.load(run_directory)
    drawn = drawings(run, read_samples(run_directory))
    again = write_figures(drawn.values(), tmp_path)
    figures = {path.name: content for path, content in rendered.items() if "figures" in path.parts}
    assert {path.name: path.read_bytes() for path in again} == figures


def test_a_run_has_its_figures_as_svg_and_its_markdown_shows_them(tmp_path, run_of):
    (tmp_path / "run.json").write_text(run_of(layers=1, heads=1, tokens=5).to_json(), "utf-8")
    paths = render_directory(tmp_path)
    drawn = {path.name for path in paths if path.parent.name == "figures"}
    assert {name.partition(".")[2] for name in drawn} == {"svg", "txt"}
    shown = set(re.findall(r"\(figures/(.+?)\)", (tmp_path / "report.md").read_text("utf-8")))
    assert "rank_by_layer.svg" in shown
    assert shown <= drawn
    write_report([tmp_path], figures=PAGE)
    assert "(figures/rank_by_layer.png)" in (tmp_path / "report.md").read_text("utf-8")


def test_files_hold_no_date_and_no_program(rendered):
    for path, content in rendered.items():
        if path.suffix == ".png":
            assert b"matplotlib" not in content.lower()
            assert imread(io.BytesIO(content)).shape[1] <= 7.3 * 200
        assert b"dc:date" not in content


def test_text_stays_text_and_no_caption_is_in_a_figure(rendered):
    for path, content in rendered.items():
        if path.suffix == ".svg":
            found = ET.fromstring(content).findall(f".//{SVG}text")
            texts = {"".join(text.itertext()) for text in found}
            assert texts
            title = rendered[path.with_suffix(".txt")].decode("utf-8").partition(". ")[0]
            assert title not in texts


@pytest.mark.parametrize(
    ("shape", "style"),
    [
        ({"layers": 1, "heads": 1, "tokens": 5}, PAGE),
        ({"layers": 5, "heads": 2, "tokens": 197, "subjects": ("causal", "M" * 60)}, PAGE),
        ({"layers": 2, "heads": 12, "tokens": 197, "subjects": tuple("abc")}, PAGE),
        ({"layers": 2, "heads": 3, "subjects": ("causal", "M" * 60)}, FigureStyle("paper", 3.25)),
        ({"layers": 14, "heads": 3, "tokens": 65}, FigureStyle("paper", 9, 12)),
    ],
)
def test_no_text_is_cut_or_covers_another(texts_of, run_of, samples, shape, style):
    least = 0.83 * style.points
    for name, drawing in drawings(run_of(**shape), samples, style).items():
        sheet = drawing.figure.bbox
        assert all(text.get_fontsize() >= least for text in drawing.figure.findobj(Text))
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
    said = [
        text.strip()
        for drawing in drawings(replace(run, header=header), hostile).values()
        for text in svg_of(drawing).itertext()
    ]
    assert sum("$\\frac{$ _{^" in text for text in said) > 3  # as given, not as a formula
    assert sum("@user https" in text for text in said) > 3


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
        "rank_by_head",
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
