"""The numbers published in the paper, and which of them measure the same as a row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from illama_eval.render.format.glossary import metric_label
from illama_eval.render.models import ReportModel
from illama_eval.results import Row

PAPER = "Adapting LLaMA Decoder to Vision Transformer (arXiv 2404.06773v4)"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One number of the paper."""

    subject: str
    source: str
    study: str
    metric: str
    value: float
    unit: str
    images: int | None
    at: Mapping[str, int]
    table: str
    """The table or figure it is from."""
    protocol: str
    """How it was measured, as far as it is stated."""
    released: str | None
    """Name of the published checkpoint it belongs to, if the paper gives one."""

    @property
    def shown(self) -> str:
        """Return value and unit as text, in the paper's digits."""
        if self.unit != "fraction":
            return f"about {self.value:g}"
        digits = max(len(f"{self.value:.6f}".rstrip("0").partition(".")[2]) - 2, 1)
        return f"{100 * self.value:.{digits}f} %"

    @property
    def number(self) -> str:
        """Return the metric with its `at`: `rank of mean map, layer 1, head 1`."""
        return ", ".join([metric_label(self.metric), *(f"{k} {v}" for k, v in self.at.items())])


@cache
def read_published() -> tuple[Published, ...]:
    """Return all rows of published.json, in its order."""
    text = files("illama_eval.render").joinpath("published.json").read_text(encoding="utf-8")
    return tuple(Published(**row) for row in json.loads(text)["rows"])


def published_of(study: str) -> list[Published]:
    """Return the paper's numbers for a study."""
    return [row for row in read_published() if row.study == study]


def counterpart(model: ReportModel, row: Row) -> Published | None:
    """Return the paper's number for the same checkpoint and the same images, or None."""
    name = model.described.get("released")
    for each in read_published():
        same = (each.study, each.metric, dict(each.at)) == (row.study, row.metric, dict(row.at))
        if same and name and each.released == name and each.images == row.images:
            return each
    return None
