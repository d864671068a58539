"""The report as one HTML file that loads nothing from outside."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from illama_eval.render.models import SYMBOLS
from illama_eval.render.page.document import Document
from illama_eval.render.page.embed import embed_data, security_policy
from illama_eval.render.style.theme import colour_rules

LARGEST = 5_000_000
"""Bytes that no page exceeds."""
_JOINT = re.compile("([_+])")
"""After what a long name goes on in the next line."""
_AFTER_MARKER = re.compile(f"([{''.join(SYMBOLS.values())}\N{MINUS SIGN}]) ")


def render_page(document: Document) -> str:
    """Return the report as HTML; equal documents give equal text.

    Names from outside are escaped; the policy in its head allows the page's own script and style
    and nothing else.
    """
    style = "\n".join([colour_rules(), _asset("page.css")])
    script = _asset("page.js")
    curves = {
        panel: curve
        for section in document.sections
        if section.heat
        for panel, curve in section.heat.curves.items()
    }
    page = _environment().get_template("page.html.j2")
    return page.render(
        d=document,
        policy=security_policy([script], [style]),
        style=Markup(style),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        curves=embed_data(curves),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("illama_eval.render.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["breakable"] = breakable
    return environment


def breakable(name: str) -> Markup:
    """Return a name that may break after an underscore or a plus, but not after its marker."""
    whole = str(escape(_AFTER_MARKER.sub("\\1\N{NO-BREAK SPACE}", name)))
    return Markup(_JOINT.sub("\\1<wbr>", whole))  # noqa: S704 - it is escaped


@cache
def _asset(name: str) -> str:
    return files("illama_eval.render.page").joinpath("templates", name).read_text(encoding="utf-8")
