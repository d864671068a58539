"""Figures as inline SVG, pictures and data inside a page, and its content security policy."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

from markupsafe import Markup

from illama_eval.render.figures.canvas import Drawing
from illama_eval.render.style.figure import SMALL, drawing_style
from illama_eval.render.style.fonts import POINTS
from illama_eval.render.style.theme import role_of

PIXELS = 1.4
"""Pixels per point on the page: the smallest text is eleven pixels high."""

_NAMESPACE = re.compile(r"^\{[^}]*\}")
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_AROUND_COMMANDS = re.compile(r" ?([MLHVCSQTAZmlhvcsqtaz]) ?")
_NO_TURN = re.compile(r"rotate\(-?0(?:\.0+)?(?: [^)]*)?\)")
_LEFT_OUT = {"metadata", "style", "title"}
_COLOURS = {"fill": "f", "stroke": "s"}
_PLAIN = {"text-anchor": "start", "font-size": f"{SMALL:g}", "stroke-linejoin": "round"}
"""Properties that the style sheet sets for every figure."""


def embed_figure(drawing: Drawing, key: str, described_by: str) -> Markup:
    """Return the drawing as SVG inside HTML, without styles of its own.

    Colours of the palette become classes, so that both themes reach them; texts stay texts.
    `key` begins the ids inside, so that no two figures of a page share one; `described_by` is the
    id of the caption.
    """
    with drawing_style():
        root = ET.fromstring(drawing.svg)  # noqa: S314 - matplotlib wrote it just now
    width, height = (float(side) * POINTS for side in drawing.figure.get_size_inches())
    view = f"0 0 {width:.0f} {height:.0f}"
    svg = ET.Element("svg", {"class": "plot", "viewBox": view, "role": "img"})
    svg.set("width", f"{PIXELS * width:.0f}")
    svg.attrib |= {"aria-label": drawing.title, "aria-describedby": described_by}
    names: dict[str, str] = {}
    styled: set[str] = set()
    for child in root:
        svg.extend(_rebuilt(child, key, names, styled))
    return Markup(ET.tostring(svg, encoding="unicode"))  # noqa: S704 - every text is escaped


def embed_data(data: Mapping[str, Any]) -> Markup:
    """Return JSON for a script element of type application/json: nothing in it ends the element."""
    text = json.dumps(data, separators=(",", ":"), sort_keys=True, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - it holds no character that HTML knows


def embed_picture(data: bytes, kind: str) -> str:
    """Return a picture of this kind, `png` or `jpeg`, as a data address."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def security_policy(scripts: Iterable[str], styles: Iterable[str]) -> str:
    """Return the policy that lets exactly these texts run and style the page, and nothing load."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hashes(scripts)}",
            f"style-src {_hashes(styles)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hashes(texts: Iterable[str]) -> str:
    digests = (hashlib.sha256(text.encode("utf-8")).digest() for text in texts)
    return " ".join(f"'sha256-{base64.b64encode(each).decode('ascii')}'" for each in digests)


def _rebuilt(
    element: ET.Element, key: str, names: dict[str, str], styled: set[str]
) -> Iterator[ET.Element]:
    """Yield the element in the page's terms; groups without attributes yield their children.

    `names` are the ids met so far, `styled` those of ticks, lines that bring their own colour.
    """
    tag = _NAMESPACE.sub("", str(element.tag))
    if tag in _LEFT_OUT:
        return
    attributes = dict(_attributes(element, key, names))
    if tag == "path" and attributes.keys() == {"d", "class"} and attributes["class"] == "f-paper":
        return  # the sheet itself
    if tag == "use" and attributes["href"] in styled:
        attributes = {name: attributes[name] for name in ("href", "x", "y")}
    if tag == "path" and {"id", "class"} <= attributes.keys() and "z" not in attributes["d"]:
        styled.add(f"#{attributes['id']}")
    children = [made for child in element for made in _rebuilt(child, key, names, styled)]
    if tag == "g" and not (attributes and children):
        yield from children
    elif tag != "defs" or children:
        made = ET.Element(tag, attributes)
        made.text = element.text if tag in {"text", "tspan"} else None
        made.extend(children)
        yield made


def _attributes(element: ET.Element, key: str, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    for qualified, value in element.attrib.items():
        name = _NAMESPACE.sub("", qualified)
        if name == "style":
            yield from _style(value, on_colour=_NAMESPACE.sub("", str(element.tag)) == "text")
        elif name == "transform":
            if turned := _NO_TURN.sub("", value).strip():
                yield name, _short(turned)
        elif name == "d":
            yield name, _AROUND_COMMANDS.sub(r"\1", _short(" ".join(value.split())))
        elif name in {"id", "href", "clip-path"}:
            if _NAMESPACE.sub("", str(element.tag)) != "g":
                yield name, _renamed(value, key, names)
        else:
            yield name, _short(value)


def _style(text: str, *, on_colour: bool = False) -> Iterator[tuple[str, str]]:
    """Yield a style's declarations as attributes; colours of the palette become a class.

    White words stand on a colour that no theme changes, and stay white.
    """
    classes: dict[str, str] = {}
    for declaration in text.split(";"):
        name, _, value = (part.strip().removesuffix("px") for part in declaration.partition(":"))
        role = role_of(value) if name in _COLOURS else None
        if role is not None and not (on_colour and role == "paper"):
            classes[_COLOURS[name]] = role
        elif name and name != "font-family" and _PLAIN.get(name) != value:
            yield name, _short(value)
    if len(classes) > 1 and len(set(classes.values())) == 1:
        classes = {"c": classes["f"]}
    if classes:
        yield "class", " ".join(f"{kind}-{role}" for kind, role in classes.items())


def _renamed(reference: str, key: str, names: dict[str, str]) -> str:
    """Return an id, or a reference to one, under its short name in this page.

    A picture that is in the figure itself, which the page's policy allows, stays as it is.
    """
    if reference.startswith("data:image/png;base64,"):
        return reference
    return re.sub(
        r"[^()#]+(?=\)?$)",
        lambda found: names.setdefault(found[0], f"{key}-{len(names)}"),
        reference,
    )


def _short(text: str) -> str:
    return _NUMBER.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), text)
