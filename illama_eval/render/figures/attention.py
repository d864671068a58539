"""Figure of the class token's attention in sample images, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from numpy.typing import NDArray

from illama_eval.render.figures.canvas import MARGIN, SMALL, WIDTH, Drawing, sheet
from illama_eval.render.samples import Images, Samples
from illama_eval.render.select import class_names
from illama_eval.render.style.fonts import drawable, fit
from illama_eval.render.style.palette import MUTED, looks_of
from illama_eval.results import Run

_MOST_LAYERS = 6
_PIXELS = 112
"""Most pixels along the side of a picture on the sheet."""
_NAMES = 1.12
"""Inches for the names beside each row."""
_GAP = 0.06
"""Space between pictures, in sides of a picture."""
_MAP_SHARE = 0.7
"""Share of the map in a picture's colour; the rest is the image in grey."""


def draw_samples(run: Run, samples: Samples) -> Iterator[Drawing]:
    """Yield the sheet: a row per image, its maps from the first layer to the last."""
    looks = looks_of(run)
    if not len(samples.ids) or not looks:
        return
    layers = _choose(samples.attention.shape[1])
    columns, rows = 1 + len(layers), len(samples.ids)
    side = min(1.0, (WIDTH - _NAMES - MARGIN) / (columns * (1 + _GAP)))
    drawing = sheet(
        "attention_samples",
        title="Where the class token looks",
        caption=f"{looks[0][1].label}: {attention_finding(samples)} Each map is the class token's "
        "attention to the image tokens, mean over the heads, from dark (none) to yellow (that "
        "map's own maximum), over the image in grey.",
        height=rows * side * (1 + _GAP) + 0.35,
        width=max(_NAMES + columns * side * (1 + _GAP) + MARGIN, 4.6),
    )
    across, down = columns * side * (1 + _GAP), rows * side * (1 + _GAP)
    axes = drawing.axes(_NAMES, 0.3, across, down)
    axes.imshow(
        _compose(samples, layers), interpolation="none", aspect="auto", extent=(0, columns, rows, 0)
    )
    axes.axis("off")
    for column, name in enumerate(["image", *(f"layer {layer + 1}" for layer in layers)]):
        axes.text(column, -0.05, name, size=SMALL, color=MUTED)
    _name_rows(axes, run, samples, side)
    yield drawing


def _choose(layers: int) -> list[int]:
    """Return at most six layers, from 0, spread from the first to the last."""
    return sorted({round(place) for place in np.linspace(0, layers - 1, min(layers, _MOST_LAYERS))})


def _compose(samples: Samples, layers: Sequence[int]) -> Images:
    """Return all pictures on one white sheet, [row, column, 3]."""
    grid = samples.attention.shape[-1]
    side = grid * max(1, min(samples.images.shape[1], _PIXELS) // grid)
    gap = max(1, round(side * _GAP))
    rows = []
    for image, maps in zip(samples.images, samples.attention, strict=True):
        picture = _resize(image / 255, side)
        pictures = [picture, *(_overlay(picture, maps[layer]) for layer in layers)]
        rows.append(
            np.concatenate(
                [
                    np.pad(one, ((0, gap), (0, gap), (0, 0)), constant_values=1.0)
                    for one in pictures
                ],
                axis=1,
            )
        )
    sheet_of_pictures: Images = np.rint(255 * np.concatenate(rows)).astype(np.uint8)
    return sheet_of_pictures


def _overlay(picture: NDArray[np.float64], map_: Images) -> NDArray[np.float64]:
    """Return the map in cividis, patch by patch, over the picture in grey."""
    grey = picture.mean(-1, keepdims=True)
    grey = (grey - grey.min()) / max(float(np.ptp(grey)), 1 / 255)
    block = len(picture) // len(map_)
    colour = colormaps["cividis"](map_.repeat(block, 0).repeat(block, 1))[..., :3]
    return np.asarray(_MAP_SHARE * colour + (1 - _MAP_SHARE) * grey)


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
        axes.text(left, row + 0.47, "\n".join(lines), size=SMALL, va="center", linespacing=1.35)


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
