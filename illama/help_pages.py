"""Help pages of both commands: each option names what it takes, and a flag takes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.core import TyperArgument, TyperGroup

_TAKES = {
    bool: "",
    int: "N",
    float: "NUMBER",
    str: "TEXT",
    list[str]: "TEXT",
    Path: "PATH",
    list[Path]: "PATH",
}
"""What stands for the value of an option of each type, where the option names nothing itself."""


class Commands(TyperGroup):
    """The commands of one program; to be given to `typer.Typer` as `cls`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of the program itself."""
        return _named(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None where there is none of this name."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _named(command.get_params(ctx))
        return command


def _named(parameters: list[Any]) -> list[Any]:
    """Let the parameters of a command name what they take; return them."""
    for each in parameters:
        if isinstance(each, TyperArgument):
            # its name and its text say what it is
            each.display_type = _no_type  # type: ignore[method-assign]
        elif each.metavar is None:
            each.metavar = _TAKES.get(each.type_descriptor.annotation)
    return parameters


def _no_type(ctx: object) -> str:
    """Return what stands for an argument's Python type: nothing."""
    del ctx
    return ""
