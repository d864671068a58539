from __future__ import annotations

import io

from rich.console import Console

from illama_eval.render.terminal.tables import (
    add_row,
    fitting_table,
    plain_table,
    plain_text,
    result_console,
)


def test_nothing_in_a_line_is_markup_and_every_letter_can_be_printed():
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert plain_text("[bold]\N{MINUS SIGN}1 \N{EM DASH} 模[/]", console).plain == "[bold]-1 - ?[/]"


def test_no_digit_is_cut_on_a_terminal_of_a_few_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "9")
    console = result_console()
    sides = {"name": "left", "value": "right", "interval": "left"}
    table = plain_table(sides, console, wrapped={"name"})
    add_row(table, ("a name", "12.50", "11.25 to 13.75"), console)
    console.print(table)
    printed = capsys.readouterr().out
    assert "12.50" in printed
    assert "11.25 to 13.75" in printed
    monkeypatch.setenv("COLUMNS", "70")
    assert result_console().width == 70


def test_only_the_wrapped_columns_break_into_lines():
    console = Console(file=io.StringIO(), width=24)
    table = plain_table({"name": "left", "value": "right"}, console, wrapped={"name"})
    add_row(table, ("a name of many words", "12.50"), console)
    console.print(table)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert len(lines) > 3
    assert "12.50" in lines[2]
    assert " ".join(line.replace("12.50", "").strip() for line in lines[2:]) == (
        "a name of many words"
    )


def test_what_is_indented_stays_so_where_it_breaks_into_lines():
    console = Console(file=io.StringIO(), width=12)
    table = plain_table({"name": "left"}, console, wrapped={"name"})
    add_row(table, ("  many long words",), console)
    console.print(table)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()[2:]]
    assert lines == ["  many long", "  words"]


def test_columns_are_left_out_in_turn_until_names_have_room():
    columns = dict.fromkeys(("name", "a", "b", "c"), "left")
    lines = [("x" * 40, "1234567", "1", "123\n1")]

    def kept(width):
        console = Console(file=io.StringIO(), width=width)
        table, kept = fitting_table(columns, lines, console, wrapped={"name"}, spare=("b", "a"))
        assert len(table.columns) == len(kept)
        return kept

    assert kept(31) == [0, 1, 2, 3]
    assert kept(30) == [0, 1, 3]
    assert kept(27) == [0, 3]
    assert kept(5) == [0, 3]
