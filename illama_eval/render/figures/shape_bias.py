"""Shape bias by category: a point with Wilson's interval for each observer, and the counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from illama.figure_style import AXIS, HAIRLINE, MUTED, TEXT
from illama_eval.render.figures.canvas import MARGIN, Drawing, sheet
from illama_eval.render.figures.labels import add_legend, label_width, legend_height
from illama_eval.render.format.numbers import show_row
from illama_eval.render.select import headline
from illama_eval.render.style.figure import NORMAL
from illama_eval.render.style.fonts import drawable
from illama_eval.render.style.palette import RUNS, looks_of
from illama_eval.results import Row, Run, nested_get
from illama_eval.statistics import wilson_interval

_STUDY = "shape_bias"
_ROW = 0.27
"""Inches per category."""
_COUNTS = 0.75
"""Inches for the numbers of decisions at the right."""
PUBLISHED = "Others: decisions published by Geirhos et al. 2019."

Counts = Mapping[str, tuple[float, float]]
"""Decisions by shape and by texture, by category of the shape."""


@dataclass(frozen=True, kw_only=True)
class Observer:
    """A model, a person or a group of people that decided, and its look in the figure."""

    label: str
    counts: Counts
    colour: str
    marker: str
    ours: bool
    """Whether it is a model of the run, which is drawn stronger."""

    @property
    def bias(self) -> float | None:
        """Share of shape among all its decisions."""
        return _share(*(sum(column) for column in zip(*self.counts.values(), strict=True)))


def draw_shape_bias(run: Run) -> Iterator[Drawing]:
    """Yield one row per category, with every model and the observers beside them."""
    observers = observers_of(run)
    categories = _categories(observers)
    if not categories:
        return
    names = [observer.label for observer in observers]
    above = legend_height(names) + 0.3
    height = _ROW * len(categories)
    left = label_width(categories, NORMAL) + MARGIN
    drawing = sheet(
        "shape_bias_by_category",
        title="Shape or texture",
        caption=_caption(run, observers),
        height=above + height + 0.55,
    )
    axes = drawing.axes(left, above, drawing.size[0] - left - _COUNTS, height)
    _frame(axes, categories)
    for place, observer in enumerate(observers):
        shift = (place - (len(observers) - 1) / 2) * min(0.16, 0.7 / len(observers))
        _draw(axes, observer, categories, shift)
    _write_counts(axes, observers[0], categories)
    lines = [Line2D([], [], color=d.colour, marker=d.marker, markersize=4) for d in observers]
    add_legend(drawing, lines, names)
    yield drawing


def observers_of(run: Run) -> list[Observer]:
    """Return the run's models, then its observers, or the published ones where it has none.

    Beside the models, as many as there are colours and markers left.
    """
    models = looks_of(run)
    found = [
        Observer(
            label=look.label,
            counts=_counts(run, name, None),
            colour=look.colour,
            marker=look.marker,
            ours=True,
        )
        for name, look in models
    ]
    found = [observer for observer in found if observer.counts]
    if not found:
        return []
    others = _measured(run, models[0][0]) or _published(found)
    taken = {(each.colour, each.marker) for each in found}
    free = [look for look in RUNS if look not in taken]
    beside = [
        Observer(label=label, counts=counts, colour=colour, marker=marker, ours=False)
        for (label, counts), (colour, marker) in zip(others.items(), free, strict=False)
    ]
    return [*found, *beside]


def _counts(run: Run, subject: str, observer: str | None) -> dict[str, tuple[float, float]]:
    """Return one observer's counts by category, in the order of the run."""
    both = []
    for metric in ("shape_decisions", "texture_decisions"):
        rows = run.by_metric.get((subject, _STUDY, metric), ())
        both.append(
            {
                str(row.at["category"]): row.value or 0.0
                for row in rows
                if "category" in row.at and row.at.get("observer") == observer
            }
        )
    return {name: (shape, both[1].get(name, 0.0)) for name, shape in both[0].items()}


def _measured(run: Run, subject: str) -> dict[str, Counts]:
    """Return the observers' counts, people pooled into one."""
    rows = run.by_metric.get((subject, _STUDY, "shape_decisions"), ())
    names = list(dict.fromkeys(str(row.at["observer"]) for row in rows if "observer" in row.at))
    kinds = {name: kind for name, kind, _ in _parameter(run)}
    people = [name for name in names if kinds.get(name) == "human"]
    found: dict[str, Counts] = {}
    if people:
        label = f"{len(people)} people" if len(people) > 1 else people[0]
        found[label] = _pool([_counts(run, subject, name) for name in people])
    others = [name for name in names if name not in people]
    return found | {drawable(name, 28): _counts(run, subject, name) for name in others}


def _parameter(run: Run) -> list[list[str]]:
    """Return name, kind and digest of the observers, as the header lists them."""
    return list(nested_get(run.header, "identity", "studies", _STUDY, "observers") or [])


def _pool(parts: Sequence[Counts]) -> Counts:
    names = dict.fromkeys(name for part in parts for name in part)
    return {
        name: tuple(sum(part.get(name, (0, 0))[k] for part in parts) for k in (0, 1))  # type: ignore[misc]  # pairs
        for name in names
    }


@cache
def read_published() -> Mapping[str, Any]:
    """Return the published decisions on the 16-category pictures, with their source."""
    path = files("illama_eval.render").joinpath("cue_conflict.json")
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _published(found: Sequence[Observer]) -> dict[str, Counts]:
    """Return the published observers, where the run's categories are theirs."""
    listed = read_published()["observers"]
    if set(found[0].counts) != set(listed[0]["decisions"]):
        return {}
    return {
        each["name"]: {name: (a, b) for name, (a, b) in each["decisions"].items()}
        for each in listed
    }


def _categories(observers: Sequence[Observer]) -> list[str]:
    """Return the categories, the first observer's highest share of shape on top."""
    if not observers:
        return []
    counts = observers[0].counts
    return sorted(counts, key=lambda name: -(_share(*counts[name]) or 0.0))


def _share(shape: float, texture: float) -> float | None:
    return shape / (shape + texture) if shape + texture else None


def _frame(axes: Axes, categories: Sequence[str]) -> None:
    axes.set(xlim=(0, 1), ylim=(len(categories) - 0.5, -0.5), xticks=[0, 0.25, 0.5, 0.75, 1])
    axes.set_xticklabels(["0\ntexture", "25", "50", "75", "100\nshape"])
    axes.set_xlabel("decided by shape (%)", labelpad=-6)
    axes.set_yticks(range(len(categories)), [drawable(name, 20) for name in categories])
    axes.tick_params(axis="y", length=0, labelcolor=TEXT, labelsize="medium")
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    for row in range(len(categories)):
        axes.axhline(row, color=HAIRLINE, linewidth=0.5, zorder=0)
    axes.axvline(0.5, color=AXIS, linewidth=0.6, zorder=0)


def _draw(axes: Axes, observer: Observer, categories: Sequence[str], shift: float) -> None:
    """Draw a observer's points with their intervals, and the line of its mean."""
    strong = 1.0 if observer.ours else 0.8
    for row, name in enumerate(categories):
        shape, texture = observer.counts.get(name, (0, 0))
        value = _share(shape, texture)
        if value is None:
            continue
        ends = wilson_interval(shape, shape + texture)
        axes.plot(
            ends,
            [row + shift] * 2,
            color=observer.colour,
            alpha=0.5 * strong,
            linewidth=1.6 if observer.ours else 0.9,
            solid_capstyle="butt",
        )
        axes.plot(
            value,
            row + shift,
            observer.marker,
            color=observer.colour,
            alpha=strong,
            markersize=5.5 if observer.ours else 3.2,
            clip_on=False,
            zorder=3,
        )
    if observer.bias is not None:
        axes.axvline(
            observer.bias,
            color=observer.colour,
            linewidth=1.2 if observer.ours else 0.8,
            linestyle="--",
            alpha=0.7 * strong,
            zorder=1,
        )


def _write_counts(axes: Axes, observer: Observer, categories: Sequence[str]) -> None:
    """Write the first observer's number of decisions at the right."""
    side = axes.get_yaxis_transform()
    axes.text(1.03, -0.75, "decisions", transform=side, size="small", color=MUTED, va="bottom")
    for row, name in enumerate(categories):
        text = f"{sum(observer.counts[name]):,.0f}"
        axes.text(1.03, row, text, transform=side, size="small", color=MUTED, va="center")


def _caption(run: Run, observers: Sequence[Observer]) -> str:
    """Return what the figure shows, with the numbers of the run's models."""
    found = []
    for name, look in looks_of(run):
        row: Row | None = headline(run, _STUDY, "shape_bias", name)
        if row is not None and row.value is not None:
            found.append(f"{look.label} decides {show_row(row).full} by shape.")
    others = [d for d in observers if not d.ours and d.bias is not None]
    beside = ", ".join(f"{d.label} {100 * (d.bias or 0):.1f} %" for d in others)
    found += [f"Beside it: {beside}."] if beside else []
    published = others and not _parameter(run)
    source = f" {PUBLISHED}" if published else ""
    return (
        f"{' '.join(found)} Points: share of shape among the decisions for shape or texture, by "
        "category of the shape; bars: Wilson's 95 % intervals; broken lines: over all categories; "
        f"at the right, the first one's decisions.{source}"
    )
