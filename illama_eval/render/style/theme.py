"""Colours of the page in both themes, by role, and the roles of the figures' colours.

On paper and card every text colour keeps 4.5:1 and every mark 3:1, in both themes; the five run
colours keep an OKLab distance of 14.8 or more under normal and colour-deficient vision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from illama import figure_style
from illama_eval.render.style import palette

THEMES: Mapping[str, tuple[str, str]] = {
    "paper": (figure_style.PAPER, "#14181D"),
    "card": ("#F6F7F9", "#1C222A"),
    "text": (figure_style.TEXT, "#E7EAEE"),
    "muted": (figure_style.MUTED, "#A9B1BD"),
    "hairline": (figure_style.HAIRLINE, "#343B45"),
    "axis": (figure_style.AXIS, "#6B7480"),
    "link": ("#0B57D0", "#8AB4FF"),
    "run0": (palette.RUNS[0][0], "#A3A9B3"),
    "run1": (palette.RUNS[1][0], "#4278E1"),
    "run2": (palette.RUNS[2][0], "#E8721C"),
    "run3": (palette.RUNS[3][0], "#BFF4C9"),
    "run4": (palette.RUNS[4][0], "#A94268"),
    "worse": ("#B3261E", "#FF8A80"),
    "better": ("#0B6BBF", "#7CC4FF"),
    "neutral": ("#5A6270", "#A9B1BD"),
    "down3": ("#7F2704", "#FFB27A"),
    "down2": ("#C4521A", "#D9793A"),
    "down1": ("#F0A675", "#8A4A22"),
    "level": ("#F4F4F2", "#2A3038"),
    "up1": ("#8DB8E8", "#2F5C94"),
    "up2": ("#3271C4", "#4F8BD6"),
    "up3": ("#0B3A82", "#9CC7FF"),
}
"""Role -> colour in the light and in the dark theme; `down3` to `up3` are a diverging scale."""

DIVERGING = ("down3", "down2", "down1", "level", "up1", "up2", "up3")
ON_DIVERGING: tuple[tuple[bool, ...], tuple[bool, ...]] = (
    (True, True, False, False, False, True, True),
    (False, False, True, True, True, False, False),
)
"""Whether the text on each diverging colour is white, in the light and in the dark theme."""

DRAWN = ("paper", "text", "muted", "hairline", "axis", "run0", "run1", "run2", "run3", "run4")
"""Roles whose light colour is used in figures."""


def role_of(colour: str) -> str | None:
    """Return the role that a figure's colour plays, or None for a colour of its own."""
    return _ROLES.get(colour.upper())


def colour_rules() -> str:
    """Return the part of the style sheet that defines all colours and the classes they have."""
    light, dark = (
        f"{{color-scheme:{name};{_variables(number)}}}"
        for number, name in enumerate(("light", "dark"))
    )
    asked = "@media screen and (prefers-color-scheme:dark)"
    themes = (
        f":root{light}",
        f"@media screen{{:root[data-theme=dark]{dark}}}",  # a printed page stays light
        f"{asked}{{:root:not([data-theme=light]){dark}}}",
    )
    return "\n".join([*themes, *_mark_rules(), *_scale_rules()])


def _variables(theme: int) -> str:
    colours = [f"--{role}:{colours[theme]}" for role, colours in THEMES.items()]
    on = [
        f"--on-{role}:{'#fff' if white else '#000'}"
        for role, white in zip(DIVERGING, ON_DIVERGING[theme], strict=True)
    ]
    return ";".join(colours + on)


def _mark_rules() -> Iterator[str]:
    for role in DRAWN:
        yield f".f-{role},.c-{role}{{fill:var(--{role})}}"
        yield f".s-{role},.c-{role}{{stroke:var(--{role})}}.t-{role}{{color:var(--{role})}}"


def _scale_rules() -> Iterator[str]:
    cells = zip(palette.SEQUENTIAL, palette.ON_SEQUENTIAL, strict=True)
    for number, (cell, text) in enumerate(cells):
        yield f".q{number}{{background:{cell};color:{text}}}"
    for number, role in enumerate(DIVERGING):
        yield f".d{number}{{background:var(--{role});color:var(--on-{role})}}"


_ROLES = {THEMES[role][0].upper(): role for role in DRAWN}
