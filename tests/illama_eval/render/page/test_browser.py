"""The page in headless Chromium: from disk, with no network, as a reader uses it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from illama_eval.compare.gate import check
from illama_eval.render import write_report
from illama_eval.render.format.escape import sanitize
from illama_eval.results import Row, Run

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WHITE, DARK = "rgb(255, 255, 255)", "rgb(20, 24, 29)"
WIDTHS = (320, 390, 640, 768, 1024, 1280)
EXAMPLES = Path(__file__).parents[4] / "reports" / "examples"


@pytest.fixture(scope="module")
def browser():
    """Return Chromium, to which every name on the network is unknown."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[browser]'")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"],
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(save, tmp_path_factory, run_of):
    """Return the page of a run of three layers and four heads, with two samples."""
    directory = save(run_of(layers=3, heads=4, tokens=33), tmp_path_factory.mktemp("r") / "run")
    random = np.random.default_rng(0)
    np.savez(
        directory / "samples.npz",
        ids=np.array(["test/00017", "test/00018"]),
        images=random.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8),
        attention=random.integers(0, 256, (2, 3, 4, 4), dtype=np.uint8),
        labels=np.array([3, 5]),
        predictions=np.array([3, 0]),
    )
    write_report([directory])
    return directory / "report.html"


@pytest.fixture(scope="module")
def hostile(save, tmp_path_factory, stored_names):
    """Return the page of a run in which every text is hostile."""
    names = stored_names
    rows = [
        Row(
            subject=names[0],
            source=name,
            study="accuracy",
            metric="top1",
            unit=name,
            reason=name,
            value=0.5,
            images=9,
            at=at,
        )
        for name in names
        for at in ({}, {"class": name})
    ]
    directory = save(
        Run(header={"device": names[1], "source": {"name": names[0]}}, rows=tuple(rows)),
        tmp_path_factory.mktemp("h") / "run",
    )
    write_report([directory])
    return directory / "report.html"


@pytest.fixture
def visit(browser):
    """Return a function that opens a file as a new reader would, and watches what happens."""
    contexts = []

    def open_page(path, address="", width=1280, height=800, **options):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            offline=True,
            reduced_motion="reduce",
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(f"file://{path}{address}")
        return page

    yield open_page
    for context in contexts:
        context.close()


def shown_rows(page, table):
    """Return the visible rows of a table's body as lists of their cells' first lines."""
    rows = page.locator(f"#{table} tbody tr:visible").all()
    return [
        [cell.split("\n")[0].strip() for cell in row.locator("td,th").all_inner_texts()]
        for row in rows
    ]


def open_table(page, table):
    page.evaluate("id => { document.getElementById(id).closest('details').open = true }", table)


def test_it_opens_from_disk_without_a_word_or_a_request(visit, report):
    page = visit(report)
    assert page.evaluate("document.documentElement.dataset.ready") == ""
    assert page.said == []
    assert [url for url in page.asked if not url.startswith("data:")] == [f"file://{report}"]


def test_the_first_screen_holds_verdict_identity_and_headline(visit, report):
    page = visit(report)
    for part, bottom in ((".verdict", 130), (".identity", 200), ("#headline", 800)):
        box = page.locator(part).bounding_box()
        assert box["y"] + box["height"] <= bottom, part


@pytest.mark.parametrize("kind", ["gated", "compared"])
def test_a_verdict_on_every_number_is_on_the_first_screen(table, visit, write_run, tmp_path, kind):
    runs = [
        write_run(tmp_path / name, accuracy=share, seed=seed, subject="illama_cifar10_nano")
        for name, share, seed in (("before", 0.8, 0), ("after", 0.79, 1))
    ]
    if kind == "gated":
        write_report([runs[1]], tmp_path / "page", check(runs[1], runs[0]))
    else:
        write_report(runs, tmp_path / "page")
    page = visit(tmp_path / "page" / "report.html")
    table = page.locator("#headline")
    box = table.bounding_box()
    assert box["y"] + box["height"] <= 800
    assert table.evaluate("({ parentNode: at }) => at.scrollWidth - at.clientWidth") == 0


def test_hostile_names_do_nothing(visit, hostile, stored_names):
    page = visit(hostile)
    assert page.said == []
    assert len(page.asked) == 1
    text = page.evaluate("document.body.textContent")
    assert all(sanitize(name, 80) in text for name in stored_names)
    assert page.locator("img, iframe, object").count() == 0
    assert page.locator("script").count() == 2


def test_the_policy_stops_what_is_written_into_the_file(visit, report, tmp_path):
    bad = tmp_path / "bad.html"
    injected = (
        "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"
        "<p onclick='window.ran = 3' id=p>.</p><style>body{display:none}</style>"
        "<link rel=stylesheet href=x.css><iframe src='data:text/html,x'></iframe>"
        "<img src='https://example.org/x.png'>"
    )
    bad.write_text(report.read_text("utf-8").replace("<main", injected + "<main", 1), "utf-8")
    page = visit(bad)
    page.locator("#p").click()
    assert page.evaluate("window.ran") is None
    assert page.evaluate("getComputedStyle(document.body).display") != "none"
    assert len(page.said) >= 5
    assert all("Content Security Policy" in message for message in page.said)


def test_without_scripts_everything_is_there(visit, report):
    page = visit(report, java_script_enabled=False)
    assert page.locator(".verdict").is_visible()
    assert page.locator("#headline tbody tr:visible").count() == 8
    assert page.locator(".tools:visible, button:visible, .slider:visible").count() == 0
    assert page.locator(".strip img:visible").count() == 2 * (1 + 3)
    assert page.locator("#m0 td:visible").count() == 1 + 12
    page.locator("summary", has_text="Attention rank by layer, head, map").click()
    assert page.locator("#rank-layer-head-map tbody tr:visible").count() == 36


def test_a_head_sorts_its_table_and_the_address_keeps_it(table, visit, report):
    page, table = visit(report), "rank-layer-head-map"
    open_table(page, table)
    head = page.locator(f"#{table} thead button", has_text="rank of mean map")
    head.click()
    ranks = [int(row[3]) for row in shown_rows(page, table)]
    assert ranks == sorted(ranks, reverse=True)
    assert page.locator(f"#{table} [aria-sort]").get_attribute("aria-sort") == "descending"
    head.press("Enter")
    assert [int(row[3]) for row in shown_rows(page, table)] == sorted(ranks)
    assert page.locator(f"#{table} [aria-sort=ascending]").count() == 1
    page.locator(f"#{table} thead button", has_text=re.compile("^map")).click()
    assert [row[2] for row in shown_rows(page, table)] == sorted(["used", "softmax", "masked"] * 12)
    again = visit(report, page.url.partition("report.html")[2])
    assert shown_rows(again, table) == shown_rows(page, table)
    assert page.said == again.said == []


def test_tables_filter_by_layer_head_and_text(table, visit, report):
    page, table = visit(report), "rank-layer-head-map"
    open_table(page, table)
    tools = page.locator(f"[data-for={table}]")
    tools.get_by_label("layer").select_option("3")
    tools.get_by_label("head").select_option("2")
    assert {tuple(row[:2]) for row in shown_rows(page, table)} == {("3", "2")}
    assert tools.locator("output").inner_text() == "3 of 36 rows"
    tools.get_by_label("find").fill("softm")
    assert [row[2] for row in shown_rows(page, table)] == ["softmax"]
    assert page.url.endswith("#rank-layer-head-map?sort=&0=3&1=2&find=softm")
    again = visit(report, page.url.partition("report.html")[2])
    assert shown_rows(again, table) == shown_rows(page, table)
    open_table(page, "calibration-bin-scaled")
    page.locator("[data-for=calibration-bin-scaled]").get_by_label("bin").select_option("7")
    assert [row[:2] for row in shown_rows(page, "calibration-bin-scaled")] == [
        ["7", "no"],
        ["7", "temperature"],
    ]


@pytest.mark.parametrize("address", ["#%E0%A4%A", "#rank-layer-head-map?sort=99d&0=%E0%A4", "#x?="])
def test_a_broken_address_does_no_harm(visit, report, address):
    page = visit(report, address)
    assert page.evaluate("document.documentElement.dataset.ready") == ""
    assert page.said == []


def test_a_cell_that_is_pointed_at_or_reached_shows_its_curve(visit, report):
    page = visit(report)
    cells, curve = page.locator("#m0 tbody td"), page.locator("polyline[data-panel=m0]")
    first = curve.get_attribute("points")
    cells.nth(6).hover()
    assert page.locator("#readout b").inner_text() == "layer 2, head 3"
    assert page.locator("#readout [data-panel=m0]").inner_text() == cells.nth(6).inner_text()
    pointed = curve.get_attribute("points")
    assert pointed != first
    page.mouse.move(0, 0)
    cells.nth(0).focus()
    points = curve.get_attribute("points").split()
    assert [round(float(n)) for n in points[-1].split(",")] == [240, 0]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert curve.get_attribute("points") == pointed
    page.keyboard.press("Enter")
    rows = shown_rows(page, "rank-layer-head-map")
    assert [row[:2] for row in rows] == [["2", "3"]] * 3
    assert rows[0][3] == cells.nth(6).inner_text()
    assert page.locator("#m0 td[tabindex='0']").count() == 1


def test_the_slider_shows_one_layer_over_the_image(visit, report):
    page = visit(report)
    slider = page.locator(".slider input[type=range]")
    assert page.locator(".map:visible").count() == 2
    slider.focus()
    page.keyboard.press("Home")
    assert page.locator(".looks output").inner_text() == "1"
    assert page.locator(".map:visible img").first.get_attribute("alt") == "layer 1"
    photo, map_ = (
        page.locator(f".strip >> nth=0 >> {part}").bounding_box()
        for part in (".frame img", ".map:visible img")
    )
    assert all(abs(photo[side] - map_[side]) < 1 for side in ("x", "y", "width", "height"))
    page.get_by_label("all layers").check()
    assert page.locator(".map:visible").count() == 6


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_dark_follows_the_system_and_the_button(visit, report):
    page = visit(report, color_scheme="dark")
    assert background(page) == DARK
    button = page.locator("#theme")
    button.click()
    assert (button.inner_text(), background(page)) == ("theme: light", WHITE)
    button.click()
    assert (button.inner_text(), background(page)) == ("theme: dark", DARK)
    light = visit(report, color_scheme="light")
    assert background(light) == WHITE
    label = light.locator(".plot text.f-text").first
    assert label.evaluate("node => getComputedStyle(node).fill") == "rgb(27, 31, 36)"


def test_paper_is_white_and_holds_every_row(visit, report, tmp_path):
    page = visit(report, "#rank-layer-head-map?0=2&1=1", color_scheme="dark")
    page.locator("#theme").click()
    page.locator("#theme").click()
    page.emulate_media(media="print")
    assert background(page) == WHITE
    assert min(page.evaluate(LETTERS)) * 72 / 96 >= 6  # points
    assert page.locator(".tools:visible, nav:visible, #theme:visible").count() == 0
    assert page.locator("#rank-layer-head-map thead").is_visible()
    page.pdf(path=tmp_path / "page.pdf")
    page.emulate_media(media="screen")
    assert page.locator("#rank-layer-head-map tbody tr:visible").count() == 3
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext on this machine: apt-get install poppler-utils")
    text = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "page.pdf", "-"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    line = re.compile(r"^ *(\d+) +(\d+) +(used|softmax|masked) ", re.MULTILINE)
    sheets = [sheet for sheet in text.split("\f") if line.search(sheet)]
    assert sum(len(line.findall(sheet)) for sheet in sheets) == 36
    assert all("rank of mean" in sheet for sheet in sheets)
    assert "Method notes" in text
    assert text.count("\f") <= 6


@pytest.mark.parametrize("names", [("demo",), ("cifar10", "cifar10-bidirectional")])
def test_print_has_six_sheets_at_most_and_nothing_to_click(visit, names, tmp_path):
    write_report([EXAMPLES / name for name in names], tmp_path)
    page = visit(tmp_path / "report.html")
    page.emulate_media(media="print")
    assert page.locator(".scripted:visible, .curves:visible").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    sheets = page.pdf(format="A4")
    assert 1 < len(re.findall(rb"/Type\s*/Page\b", sheets)) <= 6


@pytest.mark.parametrize("name", ["report", "hostile"])
def test_nothing_scrolls_sideways_at_any_width(visit, request, name):
    path = request.getfixturevalue(name)
    for width in WIDTHS:
        page = visit(path, width=width)
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page = visit(path, width=640)
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    assert page.evaluate("document.documentElement.scrollWidth") == 640


def test_no_text_of_a_figure_is_cut_small_or_covered(visit, report):
    page = visit(report)
    found = page.evaluate("""() => [...document.querySelectorAll('svg.plot')].map(svg => {
        const sheet = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].map(text => {
            const { left, right, top, bottom } = text.getBoundingClientRect();
            return { said: text.textContent, left: left - sheet.left, right: right - sheet.left,
                     top: top - sheet.top, bottom: bottom - sheet.top, wide: sheet.width,
                     high: sheet.height, size: parseFloat(getComputedStyle(text).fontSize)
                                               * sheet.width / svg.viewBox.baseVal.width };
        });
    })""")
    assert len(found) == 5
    for texts in found:
        for one in texts:
            assert one["size"] >= 10.9, one
            assert one["left"] > -1, one
            assert one["top"] > -1, one
            assert one["right"] < one["wide"] + 1, one
            assert one["bottom"] < one["high"] + 1, one


LETTERS = """() => [...document.querySelectorAll('svg.plot text')].map(text =>
    parseFloat(getComputedStyle(text).fontSize) * Math.hypot(text.getScreenCTM().a,
                                                             text.getScreenCTM().b))"""


def test_on_a_phone_figures_scroll_in_their_frames_and_keep_readable_letters(visit, report):
    page = visit(report, width=390)
    assert min(page.evaluate(LETTERS)) >= 10
    frames = page.locator(".plain")
    assert frames.count() == 4
    for frame in frames.all():
        assert frame.get_attribute("aria-label")
        assert frame.evaluate("at => at.scrollWidth > at.clientWidth")
        frame.focus()
        page.keyboard.press("ArrowRight")
        frame.evaluate("at => new Promise(done => { at.onscroll = done; at.scrollLeft && done() })")


def test_on_a_phone_no_row_of_a_table_is_a_tower_of_letters(visit, report):
    page = visit(report, width=390)
    high = page.evaluate("""() => [...document.querySelectorAll('main table:not(.heat) tr')]
        .filter(row => row.checkVisibility())
        .map(row => [row.getBoundingClientRect().height, row.textContent])""")
    assert [row for row in high if row[0] > 160] == []


def test_where_colours_are_forced_figures_follow_and_cells_keep_theirs(visit, report):
    page = visit(report, color_scheme="dark", forced_colors="active")
    page.evaluate("localStorage.setItem('theme', 'light')")
    page.reload()
    assert page.locator("#theme:visible").count() == 0

    def colour(selector, property_):
        return page.locator(selector).first.evaluate(
            "(node, name) => getComputedStyle(node)[name]", property_
        )

    canvas = colour("body", "backgroundColor")
    assert canvas == "rgb(0, 0, 0)"
    assert colour(".plot .s-axis", "stroke") == colour(".plot text", "fill") == colour("p", "color")
    assert colour(".plot .s-run1", "stroke") == "rgb(66, 120, 225)"
    assert colour(".heat tbody td", "backgroundColor") != canvas
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_a_colour_of_a_figure_alone_is_shown(visit, report):
    fill = visit(report).evaluate("""() => {
        const patch = document.createElementNS('http://www.w3.org/2000/svg', 'path');
        patch.setAttribute('fill', '#ff0000');
        document.querySelector('svg.plot').append(patch);
        return getComputedStyle(patch).fill;
    }""")
    assert fill == "rgb(255, 0, 0)"


def test_the_keyboard_reaches_everything_in_order(visit, report):
    page = visit(report)
    stops = []
    for _ in range(14):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 24)"))
    assert stops[:3] == ["Skip to the numbers", "theme: system", "Summary"]
    assert "Method notes" in stops
    assert stops[10].startswith("Headline numbers")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_targets_are_large_enough_to_hit(visit, report):
    page = visit(report, width=390)
    page.locator(".menu summary").click()
    small = page.evaluate("""() => [...document.querySelectorAll('button, select, input, nav a')]
        .filter(each => each.checkVisibility())
        .map(each => [each.outerHTML.slice(0, 60), each.closest('label,th,a,button')
            .getBoundingClientRect().height])
        .filter(([, height]) => height < 24)""")
    assert small == []


def test_a_scanner_finds_no_barrier(visit, report):
    axe = os.environ.get("AXE_CORE")
    if not axe or not Path(axe).exists():
        pytest.skip("AXE_CORE does not name axe.min.js (npm pack axe-core)")
    for scheme in ("light", "dark"):
        page = visit(report, color_scheme=scheme, bypass_csp=True)
        page.add_script_tag(path=axe)
        found = page.evaluate(
            "async () => (await axe.run()).violations.map(v => [v.id, "
            "v.nodes.map(n => n.html.slice(0, 120)).slice(0, 3)])"
        )
        assert found == []
