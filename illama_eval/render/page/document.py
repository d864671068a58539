"""The contents of a report as plain values, before they are HTML or Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from illama_eval.render.tables.text import TextTable

LONG_CELL = 36
"""Characters that a cell keeps in one line."""
NOTHING = Markup("")

_MIDDLE, _HALF = 80.0, 75.0
"""The middle of a mark and half of its length, in its own units."""
_BAND = Markup('<path class="f-hairline" d="{}"/>')
_MARK = Markup(
    '<svg class="mark" viewBox="0 0 160 14" aria-hidden="true">{band}'
    '<path class="s-axis" d="{axis}"/><path class="s-run1 wide" d="M{low} 7H{high}"/>'
    '<circle class="f-run1" cx="{value}" cy="7" r="3.5"/></svg>'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    note: str = ""
    """Set lighter after the text: an interval."""
    link: str = ""
    """Id of the section that the cell leads to."""
    tone: str = ""
    """`better`, `worse` or `neutral`, which the text shows as well."""
    mark: Markup = NOTHING
    """A small drawing instead of text, or a line below it."""

    @property
    def long(self) -> bool:
        """Whether its words may break into lines."""
        return len(self.text) + len(self.note) > LONG_CELL


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column's head."""

    label: str
    unit: str = ""
    number: bool = False
    """Whether it is aligned to the right and sorts as numbers."""
    filterable: bool = False
    """Whether readers can filter by its values."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as shown: perhaps not all of its rows."""

    key: str
    """Its id in the page."""
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    total: int
    """Rows there are."""
    chosen: str = ""
    """Which of them are shown, where not all are."""
    file: str = ""
    """Where all of them are."""
    long: bool = False
    """Whether it can be sorted and filtered; but for the headline it is folded away as well."""

    def options(self, column: int) -> list[str]:
        """Return the values of a column, in the order of the rows."""
        return list(dict.fromkeys(row[column].text for row in self.rows))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with its words."""

    key: str
    name: str
    """Stem of its files in figures/."""
    title: str
    caption: str
    svg: Markup = NOTHING


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One layer-by-head table of ranks, or of their differences."""

    key: str
    title: str
    look: str
    """Class of its curve's colour."""
    dash: str
    cells: Sequence[Sequence[Cell]]
    """[layer][head]; the tone is the class of the colour."""
    curve: str = ""
    """Points of the first cell's curve, as SVG reads them."""


@dataclass(frozen=True, kw_only=True)
class HeatMaps:
    """Ranks of all layers and heads, beside the curve of the cell that is pointed at."""

    title: str
    caption: str
    panels: Sequence[Panel]
    legend: Sequence[tuple[str, str]]
    """(class, range) of each colour."""
    tokens: int
    threshold: float
    curves: Mapping[str, Mapping[str, Sequence[object]]] = field(default_factory=dict)
    """Panel -> x [point] and y [cell, point], y in thousandths of the sum."""
    table: str = ""
    """Id of the table with the same heads."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image, and the class token's attention in it."""

    name: str
    classes: str
    """Its class, and the predicted one."""
    picture: str
    maps: Sequence[str]
    """A data address per layer."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The sample images with their maps."""

    title: str
    caption: str
    samples: Sequence[Sample]
    layers: int


@dataclass(frozen=True, kw_only=True)
class Section:
    """One study: what was found, shown and meant."""

    key: str
    title: str
    findings: Sequence[str]
    pictures: Sequence[Picture] = ()
    heat: HeatMaps | None = None
    samples: Sequence[Samples] = ()
    tables: Sequence[Table] = ()
    published: Table | None = None
    folded: bool = False
    """Whether what it shows of single models, or of each line of many, is folded away."""
    meaning: str = ""
    paper: str = ""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The page's first sentence."""

    symbol: str
    word: str
    tone: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model of the identity strip."""

    name: str
    symbol: str
    look: str
    facts: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A whole report."""

    title: str
    judgement: Judgement
    subjects: Sequence[Subject]
    crowded: bool
    """Whether there are more subjects than looks, so that their list is folded away."""
    source: Sequence[str]
    boxes: Sequence[str]
    """What limits the numbers: partial data, runs that cannot be compared."""
    remarks: Sequence[str]
    """What was assumed of the models, and changed."""
    headline: Table
    headline_note: str
    lead: Section | None
    """The figure of many models, or of one model over a range; comes before the rest."""
    changes: Section | None
    sections: Sequence[Section]
    not_run: Sequence[tuple[str, str]]
    """(study, the command that runs it)"""
    command: Sequence[str]
    provenance: Sequence[Table]
    notes: Sequence[str]
    glossary: Sequence[tuple[str, str]]

    @property
    def all_sections(self) -> list[Section]:
        """Every section that is shown, in order."""
        first = (self.lead, self.changes)
        return [*(each for each in first if each is not None), *self.sections]


def to_text_table(table: Table) -> TextTable:
    """Return a table of the report as text, without the columns that hold nothing but marks."""
    kept = [
        (index, column)
        for index, column in enumerate(table.columns)
        if not table.rows or any(row[index].text for row in table.rows)
    ]
    return TextTable(
        title=table.caption,
        head=[f"{each.label} ({each.unit})" if each.unit else each.label for _, each in kept],
        lines=[[_cell_text(row[index]) for index, _ in kept] for row in table.rows],
        right=frozenset(at for at, (_, each) in enumerate(kept) if each.number),
    )


def _cell_text(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


def difference_mark(low: float, value: float, high: float, margin: float = 0.0) -> Markup:
    """Return a dot with its interval on a line from -1 to 1: a rule at 0, the margin as a band."""
    reach = _HALF * min(margin, 1.0)
    band = f"M{_MIDDLE - reach:.1f} 0H{_MIDDLE + reach:.1f}V14H{_MIDDLE - reach:.1f}z"
    low, value, high = (end / 2 + 0.5 for end in (low, value, high))
    return _draw(f"M{_MIDDLE:.0f} 0V14", low, value, high, band if margin else "")


def _draw(axis: str, low: float, value: float, high: float, band: str = "") -> Markup:
    ends = (_MIDDLE + _HALF * min(max(2 * end - 1, -1.0), 1.0) for end in (low, value, high))
    low_end, middle, high_end = (f"{end:.1f}" for end in ends)
    shade = _BAND.format(band) if band else ""
    return _MARK.format(band=shade, axis=axis, low=low_end, value=middle, high=high_end)
