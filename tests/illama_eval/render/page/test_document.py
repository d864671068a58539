"""The page: whole, inert, the same bytes every time, and made of whatever there is."""

from __future__ import annotations

import itertools
import re


def test_the_page_is_whole_and_in_order(page):
    assert page.one("html").attributes["lang"] == "en"
    levels = [int(node.tag[1]) for node in page.walk() if re.fullmatch("h[1-6]", node.tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    sections = [section.attributes["id"] for section in page.all("section")]
    assert sections == [
        "headline-section",
        "accuracy",
        "calibration",
        "rank",
        "collapse",
        "samples",
        "not-measured",
        "provenance",
        "method",
    ]
    ids = [node.attributes["id"] for node in page.walk() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    for name in ("href", "aria-describedby", "aria-labelledby"):
        for node in page.walk():
            if name in node.attributes:
                assert node.attributes[name].removeprefix("#") in ids, node.attributes[name]


def test_every_table_and_figure_says_what_it_is(page):
    for each in page.all("table"):
        assert each.one("caption").text.strip()
        assert all(head.attributes.get("scope") and head.text.strip() for head in each.all("th"))
    for each in page.all("svg"):
        hidden = each.attributes.get("aria-hidden") == "true"
        named = {"aria-label", "aria-labelledby"} & each.attributes.keys()
        assert hidden or (each.attributes["role"] == "img" and named)
    assert all(image.attributes["alt"] for image in page.all("img"))
    assert all(box.attributes["tabindex"] == "0" for box in page.all("div", role="region"))
