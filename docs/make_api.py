"""Write docs/api.md, the public names of both packages, from their docstrings.

    python docs/make_api.py

A test fails where the page and the docstrings differ.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import illama
import illama_eval
from illama.model import Model
from illama_eval.results import Curve, Row, Verdict

PAGE = Path(__file__).with_name("api.md")
FURTHER = {
    "illama": {"model.Model": Model},
    "illama_eval": {"results.Row": Row, "results.Curve": Curve, "results.Verdict": Verdict},
}
"""What the public functions return, beside the names of the package itself."""


def page() -> str:
    """Return the page as Markdown."""
    parts = ["# Python", "Made by `python docs/make_api.py` from the docstrings."]
    for module in (illama, illama_eval):
        parts += [f"## `{module.__name__}`", _text(module)]
        for name, value in _names(module):
            parts += _entry(f"{module.__name__}.{name}", value)
    return "\n\n".join(parts) + "\n"


def _names(module: ModuleType) -> Iterator[tuple[str, object]]:
    yield from ((name, getattr(module, name)) for name in sorted(module.__all__))
    yield from FURTHER[module.__name__].items()


def _entry(name: str, value: object) -> list[str]:
    """Return the paragraphs of one name; a class has its public methods below it."""
    if inspect.isclass(value):
        members = (
            (each, found)
            for each, found in vars(value).items()
            if not each.startswith("_") and _is_described(found)
        )
        below = [part for each, found in members for part in _member(each, found)]
        return [f"### `{name}`", _text(value), *below]
    if callable(value):
        return [f"### `{name}{_signature(value)}`", _text(value)]
    keys = ", ".join(f"`{key}`" for key in value) if isinstance(value, dict) else f"`{value!r}`"
    return [f"### `{name}`", f"By name: {keys}."]


def _is_described(found: object) -> bool:
    described = (classmethod, staticmethod, property)
    return inspect.isfunction(found) or isinstance(found, described)


def _member(name: str, found: object) -> list[str]:
    function = getattr(found, "__func__", None) or getattr(found, "fget", None) or found
    shown = name if isinstance(found, property) else f"{name}{_signature(function)}"
    return [f"#### `{shown}`", _text(function)]


def _signature(function: object) -> str:
    """Return the arguments without their types, which the text describes."""
    assert callable(function)
    given = inspect.signature(function)
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in given.parameters.values()]
    kept = [each for each in plain if each.name not in {"self", "cls"}]
    return str(given.replace(parameters=kept, return_annotation=inspect.Signature.empty))


def _text(value: object) -> str:
    """Return a docstring as Markdown: arguments and errors as lists."""
    lines: list[str] = []
    for line in (inspect.getdoc(value) or "").splitlines():
        entry = re.fullmatch(r"    (\w+): (.*)", line)
        if line in {"Raises:", "Args:"}:
            lines += [line, ""]
        elif entry:
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        else:
            lines.append(f"  {line.lstrip()}" if line.startswith(" " * 8) else line)
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
