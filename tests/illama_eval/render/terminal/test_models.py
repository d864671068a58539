"""Several models on the terminal: one table, and each sentence once."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from msgspec import structs
from rich.console import Console

from illama_eval.render.format.verdicts import Said
from illama_eval.render.terminal.models import say_by_model
from illama_eval.render.terminal.summary import show_summary
from illama_eval.results import Run

EXAMPLES = Path(__file__).parents[4] / "reports" / "examples"


def several(count: int, **header: object) -> Run:
    """Return a run of models that are alike."""
    demo = Run.load(EXAMPLES / "demo", replicates=False)
    names = [demo.rows[0].subject, *(f"another_long_name_{n}" for n in range(1, count))]
    return Run(
        header={**demo.header, **header},
        rows=tuple(structs.replace(row, subject=name) for name in names for row in demo.rows),
        verdicts=tuple(
            structs.replace(each, subject=name) for name in names for each in demo.verdicts
        ),
    )


def shown(run: Run, width: int) -> list[str]:
    stream = StringIO()
    show_summary(run, Console(file=stream, width=width, highlight=False))
    return stream.getvalue().rstrip().splitlines()


@pytest.mark.parametrize(
    ("width", "lines", "interval", "control"),
    [(120, 1, "(98.28 to 99.23)", True), (80, 2, "98.28 to 99.23", True), (50, 2, "", True)],
)
def test_each_model_has_one_row_as_full_as_the_console_is_wide(width, lines, interval, control):
    text = shown(several(5), width)
    rule = next(
        number
        for number, line in enumerate(text)
        if line.startswith("\N{BOX DRAWINGS LIGHT HORIZONTAL}")
    )
    rows = text[rule + 1 : rule + 1 + 5 * lines]
    assert sum("98.85" in row for row in rows) == 5
    assert text[0].startswith("5 models on demo: 2,000")
    assert interval in "\n".join(rows)
    assert ("control:" in "\n".join(text)) == control
    assert max(map(len, text)) <= width


def test_a_series_names_its_values_and_what_they_are_of():
    plain = several(3)
    names = list(dict.fromkeys(row.subject for row in plain.rows))
    values = dict(zip(names, (0.0, 0.25, 1.0), strict=True))
    variable = {"name": "soft_mask", "values": values, "reference": names[0]}
    text = shown(several(3, variable=variable), 120)
    assert text[0] == f"3 soft masks of {names[0]} on demo: 2,000 images"
    assert [line.split()[0] for line in text if "98.85" in line] == ["0", "0.25", "1"]


def test_a_sentence_about_all_models_is_said_once_and_another_names_whom():
    said = [(name, Said(text="fine", look=False)) for name in "abcde"]
    said += [
        ("b", Said(text="odd", look=True)),
        *[(n, Said(text="rare", look=True)) for n in "abcd"],
    ]
    texts = [each.text for each in say_by_model(said, {name: name.upper() for name in "abcde"})]
    assert texts == ["Each: fine.", "B: odd.", "4 of 5: rare."]
