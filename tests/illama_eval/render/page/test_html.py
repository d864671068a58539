from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys

from illama_eval.render.format.escape import sanitize
from illama_eval.render.page.html import breakable


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
from illama_eval.render.page.html import breakable
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


def test_a_name_may_break_after_an_underscore_and_not_after_its_marker():
    assert breakable("a_b<c") == "a_<wbr>b&lt;c"
    assert breakable("\N{BLACK CIRCLE} a b") == "\N{BLACK CIRCLE}\N{NO-BREAK SPACE}a b"
