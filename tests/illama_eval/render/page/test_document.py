"""The page: whole, inert, the same bytes every time, and made of whatever there is."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys

from illama_eval.render.format.escape import sanitize
from illama_eval.results import Run


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


def hash_of(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_allows_the_page_itself_and_nothing_else(reported, page):
    html = (reported / "report.html").read_text("utf-8")
    policy = page.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    given = dict(part.split(" ", 1) for part in policy.split("; "))
    (script,) = (each for each in page.all("script") if "type" not in each.attributes)
    assert given == {
        "default-src": "'none'",
        "script-src": hash_of(script.text),
        "style-src": hash_of(page.one("style").text),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    for node in page.walk():
        assert "style" not in node.attributes
        assert not any(name.startswith("on") for name in node.attributes)
        for name in ("src", "href"):
            assert node.attributes.get(name, "#").startswith(("#", "data:image/"))
    assert "http://" not in html
    assert "https://" not in html
    assert len(script.text) < 6_600
    json.loads(page.one("script", id="curves").text)


def test_hostile_names_are_text(hostile_run, page_of, stored_names):
    page = page_of(hostile_run(stored_names))
    elements = {node.tag for node in page.walk()}
    assert not elements & {"object", "iframe", "bold", "b0", "template", "math", "base", "link"}
    assert len(page.all("script")) == 2
    assert not page.all("img")
    for name in stored_names:
        assert sanitize(name, 300) in page.text
        assert name not in page.text or sanitize(name) == name
    for cell in page.all("td"):
        assert "\x1b" not in cell.text
    assert not any(name.startswith("on") for node in page.walk() for name in node.attributes)


def test_equal_runs_give_equal_bytes_in_any_process(reported):
    program = """
import sys
from pathlib import Path
from illama_eval.render import write_report
write_report([Path(sys.argv[1])], Path(sys.argv[2]))
"""
    out = reported.parent / "again"
    environment = {**os.environ, "PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", program, reported, out],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    written = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*")}
    assert len(written) == 17
    assert all((reported / name).read_bytes() == content for name, content in written.items())


def test_a_run_without_rows_or_header_makes_a_page(page_of):
    page = page_of(Run(header={}, rows=()))
    assert "nothing measured" in page.one("h1").text
    assert page.one("p", role="status").text.startswith("\N{MIDDLE DOT} Not gated")
