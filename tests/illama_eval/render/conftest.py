"""Runs that look like real ones, made from formulas; and a strict reader of pages."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import asdict, dataclass, field, replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.text import Text
from msgspec import structs
from rich.console import Console

from illama_eval.compare.gate import check
from illama_eval.digests import bind
from illama_eval.render import write_report
from illama_eval.render.models import load_models
from illama_eval.render.page.build import document_of
from illama_eval.render.page.html import render_page
from illama_eval.render.samples import Samples
from illama_eval.results import Curve, Row, Run, Verdict, replicate_table

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "]]> & \"quoted\" 'single'",
    "[/red] [bold]x.png",
    "\x1b]0;title\x07\x1b[31mred\x9b0m",
    "$\\frac{$ _{^",
    "=cmd|'/c calc'!A0",
    "| a ` b \n\n# c\r\n|---|",
    "\u202egnp.exe\u2066",
    "nul\x00 lone \udcff surrogate \ufffe",
    "x" * 300,
    "\N{PILE OF POO} 模型 \u0e01\u0301 @user https://example.org",
)


def shape_rows(subject, layers, heads, tokens, steeper=0.0):
    """Rank rows and curves of one subject: masked maps rank higher in deep layers."""
    rows, curves = [], []
    index = np.unique(np.linspace(1, tokens, min(64, tokens)).round()).astype(int)
    for name, gain in {"used": 1.0, "softmax": 0.6, "masked": 0.9}.items():
        place = {} if name == "used" else {"map": name}
        for layer in range(1, layers + 1):
            for head in range(1, heads + 1):
                depth = layer / (layers + 1)
                power = 1.2 + steeper + 9 * depth * (1 + 0.3 * math.sin(head * 2.1 + layer)) / gain
                share = 1 - (1 - index / tokens) ** power
                rank = int(np.argmax(1 - (1 - np.arange(1, tokens + 1) / tokens) ** power >= 0.8))
                at = {"layer": layer, "head": head, **place}
                curves.append(
                    Curve(
                        subject=subject,
                        study="rank",
                        name="cumulative_share",
                        at=at,
                        x=tuple(map(float, index)),
                        y=tuple(share.round(6).tolist()),
                    )
                )
                rows.append(_row(subject, "rank", "rank_of_mean_map", rank + 1, "index", at))
                rows.append(_row(subject, "rank", "rank_per_image", rank + 1.31, "index", at, 0.8))
    for metric, value in {"rank_of_mean_map": tokens / 2, "rank_per_image": tokens / 2.2}.items():
        rows.append(_row(subject, "rank", metric, value, "index", {}, 1.5))
    return rows, curves


def calibration_rows(subject, images=10_000):
    rows = []
    sharpness = {"": 0.82, "temperature": 0.97}
    for scaled, slope in sharpness.items():
        for number in range(3, 16):
            confidence = (number - 0.45) / 15
            accuracy = 0.5 + (confidence - 0.5) * slope - 0.02
            count = int(images * (0.02 + 0.35 * (number / 15) ** 6))
            half = 1.96 * math.sqrt(max(accuracy * (1 - accuracy), 1e-4) / count)
            at = {"bin": number} | ({"scaled": scaled} if scaled else {})
            rows.append(_row(subject, "calibration", "bin_images", count, "images", at))
            rows.append(_row(subject, "calibration", "bin_confidence", confidence, at=at))
            rows.append(_row(subject, "calibration", "bin_accuracy", accuracy, at=at, half=half))
    scalars = {
        "ece": 0.0411,
        "ece_scaled": 0.0123,
        "ece_floor": 0.0061,
        "confidence": 0.814,
        "brier": 0.3188,
        "aurc": 0.0731,
    }
    rows += [_row(subject, "calibration", m, v, half=v / 9) for m, v in scalars.items()]
    rows.append(_row(subject, "calibration", "temperature", 1.2345, "ratio"))
    return rows


def collapse_rows(subject, layers, heads):
    rows = []
    for layer in range(1, layers + 1):
        depth = layer / layers
        for head in range(1, heads + 1):
            at, wave = {"layer": layer, "head": head}, math.sin(layer + 2 * head)
            if layer > 1:
                rows.append(
                    _row(subject, "collapse", "similarity", 0.3 + 0.3 * depth * wave, at=at)
                )
            rows.append(_row(subject, "collapse", "entropy_share", 0.8 - 0.3 * depth * wave, at=at))
            rows.append(_row(subject, "collapse", "row_mass", 0.6 + 0.1 * wave, at=at))
        rows.append(_row(subject, "collapse", "reach", 0.9 * depth, at={"layer": layer}))
    return rows


def make_run(layers=2, heads=3, tokens=17, subjects=("nano",), source="cifar10/test"):
    """Return a run of all studies of the one-pass command."""
    rows, curves, verdicts = [], [], []
    for number, subject in enumerate(subjects):
        for metric, value in {"top1": 0.7734, "top5": 0.9812}.items():
            rows.append(_row(subject, "accuracy", metric, value - number / 80, half=0.0081))
        rows.append(_row(subject, "accuracy", "nll", 0.7071 + number, "nats", half=0.0213))
        rows.append(_row(subject, "accuracy", "nonfinite", 0, "images"))
        rows += calibration_rows(subject)
        more, lines = shape_rows(subject, layers, heads, tokens, number / 2)
        rows, curves = rows + more + collapse_rows(subject, layers, heads), curves + lines
        verdicts.append(
            Verdict(
                subject=subject,
                study="collapse",
                name="class_token_isolation",
                verdict="attends",
                reason="reach 0.9 is above 1e-6",
            )
        )
    return Run(
        header={
            "metrics": {"accuracy": {"top1": {"better": "higher"}, "nll": {"better": "lower"}}},
            "identity": {"studies": {"rank": {"threshold": 0.8}, "calibration": {"bins": 15}}},
        },
        rows=tuple(structs.replace(row, source=source) for row in rows),
        curves=tuple(curves),
        verdicts=tuple(verdicts),
    )


def _row(subject, study, metric, value, unit="fraction", at=None, half=None):
    low, high = (None, None) if half is None else (value - half, value + half)
    reason = "one value for all images: no replicates" if half is None else ""
    return Row(
        subject=subject,
        study=study,
        metric=metric,
        value=value,
        low=low,
        high=high,
        unit=unit,
        images=10_000,
        at=at or {},
        reason=reason,
    )


@pytest.fixture(scope="session")
def run_of():
    """The factory of runs."""
    return make_run


@pytest.fixture(scope="session")
def hostile_names():
    return HOSTILE


@pytest.fixture(scope="session")
def stored_names():
    """The hostile names as a run holds them: lone surrogates are escapes, as sources write them."""
    return [name.encode("utf-8", "backslashreplace").decode() for name in HOSTILE]


VOID = {"meta", "input", "img", "br", "wbr"}
ENDED_BY = {
    "td": {"td", "th", "tr", "tbody", "thead"},
    "th": {"td", "th", "tr", "tbody", "thead"},
    "tr": {"tr", "tbody", "thead"},
    "thead": {"tbody"},
    "option": {"option"},
}
"""Elements whose end may be left out, and the beginnings that end them."""


@dataclass
class Node:
    """An element with all that it holds."""

    tag: str
    attributes: dict[str, str | None]
    children: list = field(default_factory=list)

    def walk(self):
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def all(self, tag, **attributes):
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            node
            for node in self.walk()
            if node.tag == tag and wanted.items() <= node.attributes.items()
        ]

    def one(self, tag, **attributes):
        (found,) = self.all(tag, **attributes)
        return found

    @property
    def text(self):
        return "".join(c if isinstance(c, str) else c.text for c in self.children)


class Reader(HTMLParser):
    """Builds the tree, and complains of what is not closed in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open = [Node("#document", {})]

    def handle_starttag(self, tag, attrs):
        while tag in ENDED_BY.get(self.open[-1].tag, ()):
            self.open.pop()
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice"
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        while self.open[-1].tag != tag and self.open[-1].tag in ENDED_BY:
            self.open.pop()
        assert self.open[-1].tag == tag, f"</{tag}> closes {self.open[-1].tag}"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].children.append(data)


@pytest.fixture(scope="session")
def read_page():
    """Return a function that gives the tree of a page's HTML."""

    def read(html):
        reader = Reader()
        reader.feed(html)
        reader.close()
        (root,) = reader.open
        return root

    return read


@pytest.fixture(scope="session")
def save():
    """Return a function that writes run.json into a new directory."""

    def write(run, directory):
        directory.mkdir(parents=True)
        (directory / "run.json").write_text(run.to_json(), encoding="utf-8")
        return directory

    return write


@pytest.fixture
def write(save, tmp_path):
    """Return a function that writes a run directory."""
    return lambda run: save(run, tmp_path / "run")


@pytest.fixture(scope="session")
def samples():
    """Return two noise images with attention of two layers."""
    random = np.random.default_rng(0)
    return Samples(
        ids=["test/00017", "test/00018"],
        images=random.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8),
        attention=random.integers(0, 256, (2, 2, 4, 4), dtype=np.uint8),
        labels=[3, 5],
        predictions=[3, 0],
    )


@pytest.fixture(scope="session")
def reported(tmp_path_factory, run_of, save, samples):
    """Return a run directory with samples and its report."""
    directory = save(run_of(), tmp_path_factory.mktemp("reported") / "run")
    np.savez(directory / "samples.npz", **asdict(samples))
    paths = write_report([directory])
    assert {path.name for path in paths} >= {"report.html", "report.md", "headline.tex"}
    return directory


@pytest.fixture(scope="session")
def page(reported, read_page):
    return read_page((reported / "report.html").read_text("utf-8"))


@pytest.fixture
def page_of(write, read_page):
    """Return a function that gives the tree of a run's page, drawn without figures."""

    def page(run, **options):
        document = document_of(load_models([write(run)]), [], {}, **options)
        return read_page(render_page(document))

    return page


@pytest.fixture(scope="session")
def table():
    """Return a function that gives a table's head and body as text, row by row."""
    return lambda page, key: [
        [cell.text.strip() for cell in row.children if not isinstance(cell, str)]
        for row in page.one("table", id=key).all("tr")
    ]


@pytest.fixture(scope="session")
def hostile_run(run_of):
    """Return a function that makes a run with names in all texts, whatever they are."""

    def make(names):
        run = run_of(subjects=names[:2], source=names[2], layers=1, heads=1, tokens=5)
        odd = [
            Row(
                subject=name,
                source=name,
                study=study,
                metric=name,
                value=value,
                unit=name,
                images=1,
                at=at,
                reason=name,
            )
            for name in names
            for study, value in (("accuracy", -0.5), (name, None))
            for at in ({}, {"class": name, name: 1}, {name: name})
        ]
        words = [
            Verdict(
                subject=names[0],
                study="collapse",
                name=name,
                verdict=name,
                reason=name,
                at={name: name},
            )
            for name in names
        ]
        subject = {
            "name": names[0],
            "file": names[1],
            "dtype": names[2],
            "notes": names,
            "config": {name: name for name in names},
            "args": {"x": names},
        }
        header = {
            "subjects": [subject],
            "source": {"name": names[3], "split": names[4], "classes": names},
            "code": {"version": names[5], "commit": names[6]},
            "device": names[7],
        }
        return replace(
            run,
            header={**run.header, **header},
            rows=(*run.rows, *odd),
            verdicts=(*run.verdicts, *words),
        )

    return make


@pytest.fixture
def road(write_run, tmp_path):
    """Return a roadmap's folder: `front` with one seed, isolated, and `behind` with two."""
    out = tmp_path / "road"
    plan = {
        "arms": {"vit": {"paper": 0.738}, "front": {"paper": 0.001}, "behind": {"paper": None}},
        "questions": [["front", "behind", "Does it help?"], ["vit", "front", "Does it harm?"]],
        "recipe": {"size": "nano", "epochs": 2, "batch_size": 16, "lr": 0.002},
        "train": {"source": "two", "images": 3200},
        "test": {"images": 400},
    }
    for arm, seed, accuracy in (("behind", 0, 0.8), ("front", 0, 0.3), ("behind", 1, 0.7)):
        path = write_run(out / "runs" / f"{arm}-seed{seed}", accuracy=accuracy, seed=seed)
        word = "isolated" if arm == "front" else "attends"
        token = Verdict(
            subject="nano", study="collapse", name="class_token_isolation", verdict=word, reason=""
        )
        run = replace(Run.load(path), verdicts=(token,))
        (path / "run.json").write_text(run.to_json(), encoding="utf-8")
        losses = [json.dumps({"train_loss": 3 - accuracy - epoch}) for epoch in (0, 1)]
        (path / "log.jsonl").write_text("\n".join(losses), encoding="utf-8")
    (out / "roadmap.json").write_text(json.dumps(plan), encoding="utf-8")
    return out


@pytest.fixture
def quantized(write_run, tmp_path):
    """Return the directory of a run of an exact model and two quantized ones, w8 and w4."""
    out, accuracies = tmp_path / "quantized", {"nano": 0.8, "nano+w8": 0.79, "nano+w4": 0.5}
    parts = [
        write_run(tmp_path / f"part{seed}", accuracy=accuracy, subject=name)
        for seed, (name, accuracy) in enumerate(accuracies.items())
    ]
    runs = [Run.load(part) for part in parts]
    header = {**runs[0].header, "subjects": [{"name": name} for name in accuracies]}
    for bits, described in zip((8, 4), header["subjects"][1:], strict=True):
        described["quantization"] = quantization_record(bits)
    mine = header["identity"]["subjects"]["0"]
    header["identity"]["subjects"] = {str(number): mine for number in range(3)}
    rows = tuple(row for run in runs for row in run.rows)
    out.mkdir()
    np.savez(out / "replicates.npz", **replicate_table(rows))
    stored = [dict(np.load(part / "per_image.npz")) for part in parts]
    joined = {
        name: np.concatenate([each[name] for each in stored]) for name in stored[0] if name != "ids"
    }
    np.savez(out / "per_image.npz", ids=stored[0]["ids"], **joined)
    run = bind(Run(header=header, rows=rows), out)
    (out / "run.json").write_text(run.to_json(), encoding="utf-8")
    return out


def quantization_record(bits):
    """What a header holds on a model whose weights have this many bits; 4 are simulated."""
    return {
        "label": "PTQ",
        "scheme": f"w{bits}",
        "simulated": bits == 4,
        "bytes": {
            "values": bits * 10**5,
            "scale": 10**4,
            "zero": 0,
            "float": 10**5,
            "header": 1000,
            "total": bits * 10**5 + 111_000,
            "full_precision": 3_300_000,
        },
        "quantized": [{"bits": bits}] * 3,
        "left": {"head": "excluded", "patch_embedding": "a convolution"},
        "not_smoothed": ["blocks.0.attention.projection"],
    }


@pytest.fixture
def worse(write_run, tmp_path):
    """Return the gate's result on a run that is worse than its baseline."""
    baseline, run = write_run(tmp_path / "a"), write_run(tmp_path / "b", accuracy=0.6, seed=1)
    return check(run, baseline)


@pytest.fixture(scope="session")
def printed():
    """Return a function that gives what a `show` prints on a console."""

    def run(show, shown, width=80, encoding="utf-8", **options):
        file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        show(shown, Console(file=file, width=width, **options))
        file.flush()
        return file.buffer.getvalue().decode(encoding)

    return run


@pytest.fixture(scope="session")
def unescaped():
    """Return a function that leaves out the backslash escapes of a text."""

    def strip(text):
        kept, letters = [], iter(text)
        for letter in letters:
            if letter == "\\":
                next(letters)
            else:
                kept.append(letter)
        return "".join(kept)

    return strip


@pytest.fixture(scope="session")
def rows_of():
    """Return a function that gives the cells of each Markdown row; an escaped bar is no end."""

    def cells(markdown):
        lines = [line for line in markdown.splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]

    return cells


@pytest.fixture(scope="session")
def texts_of():
    """Return a function that gives the visible texts of a figure with their boxes."""

    def read(figure):
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

    return read
