"""Figure of the class token's attention in sample images: each image, and its maps beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from numpy.typing import NDArray

from illama.figure_style import MUTED
from illama_eval.render.figures.canvas import MARGIN, Drawing, sheet
from illama_eval.render.samples import Images, Samples
from illama_eval.render.select import class_names
from illama_eval.render.style.figure import SMALL, sheet_width
from illama_eval.render.style.fonts import drawable, fit
from illama_eval.render.style.palette import looks_of
from illama_eval.results import Run

_MOST_LAYERS = 6
_LEAST = 0.42
"""Least side of a picture in inches: a narrow sheet shows fewer layers."""
_LARGEST = 0.85
_PIXELS = 112
"""Most pixels along the side of a picture on the sheet."""
_NAMES = 1.12
"""Inches for the names beside each row."""
_GAP = 0.06
"""Space between pictures, in sides of a picture."""
_ABOVE, _BELOW = 0.3, 0.5
"""Inches above the pictures, and below them for the scale."""


def draw_samples(run: Run, samples: Samples, subject: str | None = None) -> Iterator[Drawing]:
    """Yield the sheet: a row per image, its maps from the first layer to the last.

    `subject` is whose maps they are; by default the first one's.
    """
    looks = looks_of(run)
    number = next((place for place, (name, _) in enumerate(looks) if name == subject), 0)
    if not len(samples.ids) or not looks:
        return
    room = int((sheet_width() - _NAMES - MARGIN) / (_LEAST * (1 + _GAP))) - 1
    layers = _choose(samples.attention.shape[1], min(_MOST_LAYERS, room))
    columns, rows = 1 + len(layers), len(samples.ids)
    side = min(_LARGEST, (sheet_width() - _NAMES - MARGIN) / (columns * (1 + _GAP)))
    across, down = columns * side * (1 + _GAP), rows * side * (1 + _GAP)
    drawing = sheet(
        f"attention_samples{f'-{number + 1}' if number else ''}",
        title="Where the class token looks",
        caption=f"{looks[number][1].label}: {attention_finding(samples)} Beside each image the "
        "class token's attention to the image tokens, mean over the heads, patch by patch. Every "
        "map has its own scale.",
        height=_ABOVE + down + _BELOW,
    )
    axes = drawing.axes(_NAMES, _ABOVE, across, down)
    axes.imshow(
        _compose(samples, layers), interpolation="none", aspect="auto", extent=(0, columns, rows, 0)
    )
    axes.axis("off")
    for column, name in enumerate(["image", *(f"layer {layer + 1}" for layer in layers)]):
        axes.text(column, -0.05, fit(name, SMALL, side), size="small", color=MUTED)
    _name_rows(axes, run, samples, side)
    _draw_scale(drawing.axes(_NAMES, _ABOVE + down + 0.05, min(2.0, across), 0.1))
    yield drawing


def _draw_scale(axes: Axes) -> None:
    bar = axes.figure.colorbar(
        ScalarMappable(cmap=colormaps["cividis"]), cax=axes, orientation="horizontal"
    )
    bar.set_ticks([0, 1], labels=["0", "the map's maximum"])
    bar.outline.set_linewidth(0.5)
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[1].set_horizontalalignment("right")


def _choose(layers: int, most: int) -> list[int]:
    """Return at most so many layers, from 0, spread from the first to the last."""
    return sorted({round(place) for place in np.linspace(0, layers - 1, max(1, min(layers, most)))})


def _compose(samples: Samples, layers: Sequence[int]) -> Images:
    """Return all pictures on one white sheet, [row, column, 3]."""
    grid = samples.attention.shape[-1]
    side = grid * max(1, min(samples.images.shape[1], _PIXELS) // grid)
    gap = max(1, round(side * _GAP))
    rows = []
    for image, maps in zip(samples.images, samples.attention, strict=True):
        pictures = [_resize(image / 255, side), *(_colour(maps[layer], side) for layer in layers)]
        padded = [
            np.pad(one, ((0, gap), (0, gap), (0, 0)), constant_values=1.0) for one in pictures
        ]
        rows.append(np.concatenate(padded, axis=1))
    sheet_of_pictures: Images = np.rint(255 * np.concatenate(rows)).astype(np.uint8)
    return sheet_of_pictures


def _colour(map_: Images, side: int) -> NDArray[np.float64]:
    """Return the map in cividis, patch by patch, [row, column, 3]."""
    block = side // len(map_)
    return np.asarray(colormaps["cividis"](map_.repeat(block, 0).repeat(block, 1))[..., :3])


def _resize(picture: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the picture at another size: means of whole pixels, or pixels repeated."""
    for axis in (0, 1):
        length = picture.shape[axis]
        edges = np.arange(side) * length // side
        if length >= side:
            widths = np.diff(edges, append=length).reshape(-1, *[1] * (2 - axis))
            picture = np.add.reduceat(picture, edges, axis) / widths
        else:
            picture = picture.take(edges, axis)
    return picture


def _name_rows(axes: Axes, run: Run, samples: Samples, side: float) -> None:
    names = class_names(run)
    for row, sample_id in enumerate(samples.ids):
        lines = [drawable(sample_id), *class_lines(samples, names, row)]
        left = -(_NAMES - MARGIN) / (side * (1 + _GAP))
        lines = [fit(line, SMALL, _NAMES - 1.7 * MARGIN) for line in lines]
        axes.text(left, row + 0.47, "\n".join(lines), size="small", va="center", linespacing=1.35)


def class_lines(samples: Samples, names: Sequence[str], row: int) -> list[str]:
    """Return the image's class and the predicted one, one line each."""
    if samples.labels is None:
        return []
    label = _class_name(names, samples.labels[row])
    if samples.predictions is None:
        return [label]
    if samples.labels[row] == samples.predictions[row]:
        return [f"{label} \N{CHECK MARK}"]
    return [label, f"\N{BALLOT X} {_class_name(names, samples.predictions[row])}"]


def _class_name(names: Sequence[str], number: int) -> str:
    name = names[number] if 0 <= number < len(names) else f"class {number}"
    return drawable(name)


def attention_finding(samples: Samples) -> str:
    """Return on how few patches half of the attention falls, in the first and the last layer."""
    maps = samples.attention.reshape(*samples.attention.shape[:2], -1).astype(np.float64)
    ordered = np.sort(maps, axis=-1)[..., ::-1].cumsum(-1)
    needed = 1 + (ordered < ordered[..., -1:] / 2).sum(-1)
    patches, layers = maps.shape[-1], maps.shape[1]
    first, last = (f"{np.median(needed[:, layer]):.4g}" for layer in (0, -1))
    return (
        f"half of the attention falls on {last} of {patches} patches in layer {layers}"
        + (f", on {first} in layer 1" if layers > 1 else "")
        + " (median of the images)."
    )
