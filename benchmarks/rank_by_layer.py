"""Rank of attention maps by layer, as used and with the causal mask laid over, and their figure.

`measure` adds a model's panel to a JSON file, with a jackknife interval of each layer's mean over
its heads; `draw` draws all panels of the file beside each other, as shares of their tokens.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from illama.observation import LAYER_WANTED
from illama.sources import open_source
from illama_eval.bootstrap import keys_of
from illama_eval.commands.checkpoints import parse_checkpoint
from illama_eval.functional.spectrum import index_of_share
from illama_eval.render.figures.canvas import BAND, MARGIN, Drawing, sheet
from illama_eval.render.style.figure import drawing_style, sheet_width
from illama_eval.render.style.palette import RUNS
from illama_eval.results import Row
from illama_eval.run.evaluate import evaluate
from illama_eval.statistics import jackknife
from illama_eval.studies.rank import MakeRow, Rank
from illama_eval.subjects.checkpoint import open_checkpoint
from illama_eval.subjects.timm import open_timm

MAPS = {"used": "as used", "masked": "causal mask laid over"}
"""Kinds of maps that are drawn, and their names in the legend."""
LOOKS = (RUNS[1][0], RUNS[2][0])
DOTS, COLOURS = 130, 32
"""Resolution and colours of the file, which is committed."""
_HIGH = 2.1
"""Height of the axes in inches."""


class RankByLayer(Rank):
    """The rank study with one row for each layer, the mean over its heads."""

    def _rows(
        self, metric: str, values: Tensor, images: int, kind: str, make: MakeRow
    ) -> Iterator[Row]:
        declared, place = self.metrics[metric], {} if kind == "used" else {"map": kind}
        yield make(metric, values.mean((1, 2)), images, declared, place)
        for layer in range(values.shape[1]):
            at = {"layer": layer + 1, **place}
            yield make(metric, values[:, layer].mean(1), images, declared, at)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Return a panel: ranks of the mean map by layer and kind of map."""
    device = torch.device("cpu")
    if given.model.startswith("timm:"):
        subject: Any = open_timm(
            given.model, given.weights, device=device, image_size=given.image_size
        )
    else:
        checkpoint = parse_checkpoint(Path(given.model))
        subject = open_checkpoint(checkpoint.path, device=device, **checkpoint.settings)
    source = open_source(given.data).limit(given.limit, 0)
    if given.groups:
        found = list(_in_groups(subject, source, given.groups))
    else:
        run = evaluate(subject, source, [RankByLayer(spectra=1)])
        found = [_point(row) for row in run.rows if row.metric == "rank_of_mean_map"]
    return {
        "name": given.name,
        "tokens": given.tokens,
        "images": len(source),
        "ranks": [point for point in found if point["map"] in MAPS],
    }


def _point(row: Row) -> dict[str, Any]:
    ends = {"value": row.value, "low": row.low, "high": row.high}
    return {"map": row.at.get("map", "used"), "layer": row.at.get("layer"), **ends}


def _in_groups(subject: Any, source: Any, groups: int) -> Iterator[dict[str, Any]]:
    """Yield ranks of the mean maps with a jackknife over so many groups of images.

    For maps so large that the study keeps two groups and gives no interval: of 1,370 tokens and 12
    layers of 6 heads, 8 groups take 4.3 GB and some 1,300 decompositions.
    """
    begin, order = time.process_time(), keys_of(source.ids).argsort().argsort()
    sums: dict[int, Tensor] = {}
    with torch.no_grad():
        for position in range(len(source)):
            group = int(order[position]) * groups // len(source)
            image = subject.prepare(source.read(position))[None]
            for piece in subject.observe(image, frozenset({"used"}) & LAYER_WANTED):
                if getattr(piece, "used", None) is not None:
                    used = piece.used[0]
                    sums.setdefault(piece.index, torch.zeros(groups, *used.shape))[group] += used
    print(f"maps: {time.process_time() - begin:.0f} s of processor time", file=sys.stderr)
    ranks = {kind: torch.zeros(1 + groups, len(sums)) for kind in MAPS}
    for layer, parts in sums.items():
        total = parts.sum(0, dtype=torch.float64)
        for kind, left_out in product(MAPS, range(1 + groups)):
            some = total if left_out == 0 else total - parts[left_out - 1]
            some = some if kind == "used" else some.tril()
            ranks[kind][left_out, layer - 1] = index_of_share(some, 0.8).mean()
        print(f"layer {layer}: {time.process_time() - begin:.0f} s", file=sys.stderr, flush=True)
    for kind, values in ranks.items():
        yield _jackknifed(kind, None, values.mean(1))
        for layer in range(values.shape[1]):
            yield _jackknifed(kind, layer + 1, values[:, layer])


def _jackknifed(kind: str, layer: int | None, values: Tensor) -> dict[str, Any]:
    """Return a point with its interval, of the value of all images and without each group.

    An index that no group moves has none, as in the study.
    """
    interval = jackknife(values.double().numpy())[0] if values.std() else (None, None)
    ends = dict(zip(("low", "high"), interval, strict=True))
    return {"map": kind, "layer": layer, "value": float(values[0]), **ends}


def draw(panels: list[Mapping[str, Any]]) -> Drawing:
    """Return the figure: a panel for each model."""
    drawing = sheet(
        "rank_by_layer",
        title="The causal mask alone raises the rank of bidirectional models' maps",
        caption=f"{' '.join(map(_sentence, panels))} Index at which the singular values of the "
        "mean map reach 0.8 of their sum, mean over the heads of a layer, as a share of the "
        "tokens; bands: 95 % jackknife intervals over images, where there are images enough.",
        height=_HIGH + 0.9,
    )
    width = (sheet_width() - 0.6 - MARGIN) / len(panels) - 0.2
    for number, panel in enumerate(panels):
        axes = drawing.axes(0.6 + number * (width + 0.2), 0.35, width, _HIGH)
        for (kind, label), dash, colour in zip(MAPS.items(), ("-", "--"), LOOKS, strict=True):
            _draw_line(axes, panel, kind, label, dash, colour)
        axes.set_title(panel["name"], size=8)
        axes.set_ylim(0, 1)
        axes.set_xlabel("layer")
        if number:
            axes.set_yticklabels([])
        else:
            axes.set_ylabel("rank / tokens")
            axes.legend(frameon=False, fontsize=8, loc="upper left")
    return drawing


def _draw_line(
    axes: Any, panel: Mapping[str, Any], kind: str, label: str, dash: str, colour: str
) -> None:
    points = [each for each in panel["ranks"] if each["map"] == kind and each["layer"]]
    layers, tokens = [each["layer"] for each in points], panel["tokens"]
    shares = [each["value"] / tokens for each in points]
    axes.plot(layers, shares, dash, color=colour, marker="o", markersize=3, label=label)
    low, high = (
        [(each["value"] if each[end] is None else each[end]) / tokens for each in points]
        for end in ("low", "high")
    )
    axes.fill_between(layers, low, high, color=colour, alpha=2 * BAND, linewidth=0)
    axes.set_xticks(layers[:: 1 if len(layers) < 8 else 2])


def _sentence(panel: Mapping[str, Any]) -> str:
    used, masked = (
        next(each for each in panel["ranks"] if each["map"] == kind and each["layer"] is None)
        for kind in MAPS
    )
    return (
        f"{panel['name']} ({panel['images']:,} images): {_words(used)} as used, {_words(masked)}"
        " with the mask, mean over layers."
    )


def _words(point: Mapping[str, Any]) -> str:
    interval = "" if point["low"] is None else f" ({point['low']:.1f} to {point['high']:.1f})"
    return f"{point['value']:.1f}{interval}"


def main() -> None:
    """Read the command line; measure or draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="JSON of panels")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("draw")
    adding = commands.add_parser("measure")
    adding.add_argument("model", help="checkpoint, with settings, or timm:NAME")
    adding.add_argument("--weights", default="random")
    adding.add_argument("--data", required=True)
    adding.add_argument("--name", required=True, help="of the panel; one of this name is replaced")
    adding.add_argument("--tokens", type=int, required=True)
    adding.add_argument("--limit", type=int, default=10**9)
    adding.add_argument("--image-size", type=int)
    adding.add_argument("--groups", type=int, help="of the jackknife, for maps of many tokens")
    given = parser.parse_args()
    panels = json.loads(given.file.read_text("utf-8")) if given.file.exists() else []
    if given.command == "measure":
        panel = measure(given)
        panels = [*(each for each in panels if each["name"] != given.name), panel]
        given.file.write_text(json.dumps(panels, indent=0) + "\n", encoding="utf-8")
        return
    target = given.file.with_suffix(".png")
    with drawing_style():
        drawing = draw(panels)
        drawing.figure.savefig(target, dpi=DOTS, metadata={"Software": None})
    Image.open(target).quantize(COLOURS).save(target, optimize=True)
    target.with_suffix(".txt").write_text(f"{drawing.title}. {drawing.caption}\n", "utf-8")
    print(target)


if __name__ == "__main__":
    main()
