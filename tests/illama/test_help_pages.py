"""Help pages: what each option takes has a plain name, and flags take nothing."""

import re

import pytest
from typer import Context, Typer
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

import illama.cli
import illama_eval.cli


@pytest.mark.parametrize("app", [illama.cli.app, illama_eval.cli.app])
def test_no_parameter_shows_a_type_of_python(app: Typer) -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    context = Context(group)
    shown = {
        f"{name} {each.name}": each.display_type_rich(context) or ""
        for name in group.commands
        for each in group.get_command(context, name).get_params(context)
    }
    assert len(shown) > 30
    assert {name: text for name, text in shown.items() if "<" in text and "|" not in text} == {}
    assert {text for name, text in shown.items() if name.endswith(" help")} == {""}


@pytest.mark.parametrize("words", [["-h"], ["run", "-h"]])
def test_the_page_shows_help_as_a_flag(words: list[str]) -> None:
    page = CliRunner().invoke(illama_eval.cli.app, words)
    assert re.search(r"--help +-h +Show this message and exit", page.output)
