"""The page: whole, inert, the same bytes every time, and made of whatever there is."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from illama_eval.compare.gate import check
from illama_eval.render import render_directory, report, write_report
from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.glossary import EXPLAINED
from illama_eval.render.models import load_models
from illama_eval.render.page.build import document_of
from illama_eval.render.page.embed import embed_data
from illama_eval.render.page.html import render_page
from illama_eval.render.page.markdown import report_markdown
from illama_eval.render.page.rank_heatmap import heat_maps
from illama_eval.render.page.sections import MOST_ROWS, share_rows
from illama_eval.render.paper import counterpart, read_published
from illama_eval.render.style.palette import ON_SEQUENTIAL, SEQUENTIAL
from illama_eval.render.style.theme import DIVERGING, ON_DIVERGING, THEMES
from illama_eval.render.tables.text import latex_cell
from illama_eval.results import Row, Run, Verdict

EXAMPLES = Path(__file__).parents[3] / "reports" / "examples"


def save(run, directory):
    """Write run.json into a new directory."""
    directory.mkdir(parents=True)
    (directory / "run.json").write_text(run.to_json(), encoding="utf-8")
    return directory


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a run directory."""
    return lambda run: save(run, tmp_path / "run")


@pytest.fixture(scope="module")
def reported(tmp_path_factory, run_of):
    """Return a run directory with samples and its report."""
    directory = save(run_of(), tmp_path_factory.mktemp("reported") / "run")
    random = np.random.default_rng(0)
    np.savez(
        directory / "samples.npz",
        ids=np.array(["test/00017", "test/00018"]),
        images=random.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8),
        attention=random.integers(0, 256, (2, 2, 4, 4), dtype=np.uint8),
        labels=np.array([3, 5]),
        predictions=np.array([3, 0]),
    )
    paths = write_report([directory])
    assert {path.name for path in paths} >= {"report.html", "report.md", "headline.tex"}
    return directory


@pytest.fixture(scope="module")
def page(reported, read_page):
    return read_page((reported / "report.html").read_text("utf-8"))


@pytest.fixture
def page_of(write, read_page):
    """Return a function that gives the tree of a run's page, drawn without figures."""

    def page(run, **options):
        document = document_of(load_models([write(run)]), [], {}, **options)
        return read_page(render_page(document))

    return page


def table(page, key):
    """Return a table's head and body as text, row by row."""
    return [
        [cell.text.strip() for cell in row.children if not isinstance(cell, str)]
        for row in page.one("table", id=key).all("tr")
    ]


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


def hostile_run(run_of, names):
    """Return a run in which every text is hostile."""
    run = run_of(subjects=names[:2], layers=1, heads=1, tokens=5)
    odd = [
        Row(
            subject=names[0],
            study=name,
            metric=name,
            unit=name,
            reason=name,
            value=None,
            images=1,
            at=at,
        )
        for name in names
        for at in ({}, {name: name})
    ]
    words = [
        Verdict(
            subject=names[0],
            study="collapse",
            name=name,
            verdict=name,
            reason=name,
            at={name: name},
        )
        for name in names
    ]
    header = {
        "subjects": [
            {
                "name": names[0],
                "file": names[1],
                "dtype": names[2],
                "notes": names,
                "config": {name: name for name in names},
                "args": {"x": names},
            }
        ],
        "source": {"name": names[3], "split": names[4], "classes": names},
        "code": {"version": names[5], "commit": names[6]},
        "device": names[7],
    }
    return replace(
        run,
        header={**run.header, **header},
        rows=(*run.rows, *odd),
        verdicts=(*run.verdicts, *words),
    )


def test_hostile_names_are_text(run_of, page_of, stored_names):
    page = page_of(hostile_run(run_of, stored_names))
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


def test_hostile_names_are_text_in_the_markdown(run_of, write, stored_names):
    document = document_of(load_models([write(hostile_run(run_of, stored_names))]), [], {})
    text = report_markdown(document)
    for line in text.splitlines():
        if line.startswith("    "):
            continue  # a block of code
        assert not re.search(r"(?<!\\)<", line.replace("`", "")), line
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) > 2
    assert "\x1b" not in text
    widths = [len(re.split(r"(?<!\\)\|", line)) for line in _headline(text)]
    assert len(set(widths)) == 1


def _headline(text):
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    return list(itertools.takewhile(lambda line: line.startswith("|"), lines[start:]))


def test_data_cannot_end_its_element():
    text = embed_data({"</script><!--": ["&lt;", "]]>"]})
    assert not set(text) & set("<>&")
    assert json.loads(text) == {"</script><!--": ["&lt;", "]]>"]}


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


def contrast(one, other):
    def luminance(colour):
        values = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_can_be_told_and_read_in_both_themes(theme):
    colours = {role: both[theme] for role, both in THEMES.items()}
    for ground in ("paper", "card"):
        for role in ("text", "muted", "link", "worse", "better", "neutral"):
            assert contrast(colours[role], colours[ground]) >= 4.5, (role, ground)
    for role in ("axis", "run0", "run1", "run2", "run3", "run4"):
        assert contrast(colours[role], colours["paper"]) >= 3, role
    for role, white in zip(DIVERGING, ON_DIVERGING[theme], strict=True):
        assert contrast(colours[role], "#ffffff" if white else "#000000") >= 4.5, role
    for cell, text in zip(SEQUENTIAL, ON_SEQUENTIAL, strict=True):
        assert contrast(cell, text) >= 4.5


def test_figures_take_all_colours_from_the_theme(page):
    plots = page.all("svg", class_="plot")
    assert len(plots) == 5
    for node in itertools.chain.from_iterable(plot.walk() for plot in plots):
        for name in ("fill", "stroke"):
            assert node.attributes.get(name, "none") == "none"
    shapes = {
        node.attributes["id"]: node.attributes["d"]
        for plot in plots
        for node in plot.all("path")
        if "id" in node.attributes
    }
    for use in (use for plot in plots for use in plot.all("use")):
        assert "class" in use.attributes or "z" not in shapes[use.attributes["href"][1:]]
    texts = {node.text for plot in plots for node in plot.all("text")}
    assert {"mean confidence in the bin (%)", "singular values taken"} <= texts


def test_rows_are_capped_and_the_page_says_so(run_of, page_of):
    page = page_of(run_of(layers=20, heads=16, tokens=33))
    rows = [row for body in page.all("tbody") for row in body.all("tr")]
    assert len(rows) <= MOST_ROWS
    text = " ".join(page.text.split())
    found = re.search(
        r"(\d+) of 960 rows are shown, those of lowest rank of mean map; "
        r"all are in tables/rank.csv",
        text,
    )
    shown = table(page, "rank-layer-head-map")[1:]
    assert len(shown) == int(found[1])
    cells = page.one("table", id="m0").all("td")
    assert len(cells) == 1 + 20 * 16
    assert len(page.one("script", id="curves").text) < 200_000


def test_every_table_gets_its_share_of_the_rows():
    assert share_rows([10, 20, 30], 1200) == 30
    assert share_rows([10, 900, 900], 1200) == 595
    assert share_rows([700, 700], 1200) == 600
    assert share_rows([], 1200) == 0
    assert share_rows([5, 5], -3) == 1


def test_a_page_too_large_is_made_lean_and_says_so(reported, tmp_path, monkeypatch):
    whole = (reported / "report.html").read_bytes()
    monkeypatch.setattr(report, "LARGEST", len(whole) - 1)
    write_report([reported], tmp_path)
    html = (tmp_path / "report.html").read_text("utf-8")
    assert len(html.encode()) < len(whole)
    assert "Left out, so that the page stays below 0 MB: sample images." in html
    assert "data:image" not in html


def test_a_page_becomes_leaner_step_by_step(run_of, write):
    lineup = load_models([write(run_of(layers=9, heads=9))])
    pages = [render_page(document) for document in report._smaller_versions(lineup, [], {}, None)]
    assert len(pages) == 4
    assert "Left out" not in pages[0]
    assert all("Left out" in page for page in pages[1:])
    assert "figures and most rows" in pages[-1]
    assert pages[-1].count("<tr") < pages[0].count("<tr") - 200


def test_one_layer_of_one_head_is_enough(run_of, page_of):
    page = page_of(run_of(layers=1, heads=1, tokens=5))
    assert [cell.text.strip() for cell in page.one("table", id="m0").all("td")[1:]] == ["2"]
    assert page.one("figure", class_="heats").attributes["data-tokens"] == "5"


@pytest.mark.parametrize("study", ["accuracy", "calibration", "rank", "collapse"])
def test_a_study_alone_makes_a_page_that_names_the_others(run_of, page_of, study):
    run = run_of()
    rows = tuple(row for row in run.rows if row.study == study)
    page = page_of(replace(run, rows=rows, curves=(), verdicts=()))
    assert page.one("section", id=study)
    missing = page.one("section", id="not-measured").text
    measurable = [known for known in EXPLAINED.values() if known.command]
    assert missing.count("illama-eval") == len(measurable) - 1
    assert f"illama-eval {study.replace('calibration', 'calibrate')}" not in missing


def test_a_run_without_rows_or_header_makes_a_page(page_of):
    page = page_of(Run(header={}, rows=()))
    assert "nothing measured" in page.one("h1").text
    assert page.one("p", role="status").text.startswith("\N{MIDDLE DOT} Not gated")


def test_an_unknown_study_is_shown_all_the_same(page_of):
    rows = [
        Row(
            subject="s",
            study="new_study",
            metric="m_n",
            value=0.5,
            low=0.4,
            high=0.6,
            images=9,
            at=at,
        )
        for at in ({}, {"class": "cat"}, {"class": "dog"})
    ]
    page = page_of(Run(header={}, rows=tuple(rows)))
    assert page.one("section", id="new_study").one("h2").text == "New study"
    lines = table(page, "new_study-class")
    assert lines == [["class", "m n (%)"], ["cat", "50 40 to 60"], ["dog", "50 40 to 60"]]


def test_undefined_numbers_are_dashes_with_their_reason(run_of, page_of):
    run = run_of()
    rows = [
        structs.replace(row, value=None, low=None, high=None, reason="too few") for row in run.rows
    ]
    page = page_of(replace(run, rows=tuple(rows)))
    for line in table(page, "headline")[1:]:
        assert line[2:4] == ["\N{EM DASH}", "\N{EM DASH} too few"]
    cells = page.one("table", id="m0").all("td")[1:]
    assert {cell.text.strip() for cell in cells} == {"\N{EM DASH}"}


def test_the_headline_holds_the_most_telling_numbers_with_their_intervals(run_of, page_of):
    page = page_of(run_of())
    head, *lines = table(page, "headline")
    assert head == ["study", "metric", "value", "95 % interval", "on its scale", "images"]
    assert len(lines) <= 9
    assert lines[0][:4] == [
        "Accuracy",
        "top-1 accuracy (%) \N{UPWARDS ARROW}",
        "77.34",
        "76.53 to 78.15",
    ]
    assert {line[0] for line in lines} == {"Accuracy", "Calibration", "Attention rank"}
    assert "top-1 accuracy 77.34 % (76.53 to 78.15)" in page.one("p", role="status").text.lower()


def test_every_cell_of_the_heat_map_has_its_curve(run_of, write):
    lineup = load_models([write(run_of(layers=3, heads=2, tokens=65))])
    heat = heat_maps(lineup, "rank-layer-head-map")
    assert [panel.title for panel in heat.panels] == [
        "used map",
        "softmax, masked",
        "softmax, all keys",
    ]
    for panel in heat.panels:
        curves = heat.curves[panel.key]
        assert len(curves["y"]) == 6
        for cell, y in zip(itertools.chain(*panel.cells), curves["y"], strict=True):
            rank, x = int(cell.text), np.array(curves["x"])
            assert y[-1] == 1000
            assert np.interp(rank, x, y) >= 785
            assert np.interp(rank - 1, x, y) <= 805
    assert [tone for tone, _ in heat.legend] == [f"q{number}" for number in range(7)]


def test_two_runs_have_paired_differences_and_say_what_intervals_cover(
    write_run, tmp_path, read_page
):
    runs = [
        write_run(tmp_path / name, accuracy=accuracy, seed=seed, subject=name)
        for name, accuracy, seed in (("a", 0.8, 0), ("b", 0.6, 1))
    ]
    out = tmp_path / "out"
    write_report(runs, out)
    page = read_page((out / "report.html").read_text("utf-8"))
    head, *lines = table(page, "headline")
    assert head[2:5] == [
        "\N{BLACK CIRCLE} a",
        "\N{BLACK DIAMOND} b",
        "\N{BLACK DIAMOND} \N{MINUS SIGN} \N{BLACK CIRCLE}, paired",
    ]
    found = {line[1]: line[-1] for line in lines}
    assert found["top-1 accuracy (%) \N{UPWARDS ARROW}"] == "\N{BLACK CIRCLE} better"
    assert found["rank per image (index)"] == "differs"
    assert "not training seeds" in page.one("section", id="headline-section").text
    assert "McNemar" in page.one("section", id="changes").text
    flips = table(page, "flips-0")
    assert sum(int(cell) for line in flips[1:] for cell in line[1:]) == 400
    assert (out / "tables" / "models.tex").read_text("utf-8").count("\\toprule") == 1


def test_best_is_marked_only_where_every_paired_interval_excludes_zero(write_run, tmp_path):
    runs = [
        write_run(tmp_path / name, accuracy=accuracy, seed=seed, subject=name)
        for name, accuracy, seed in (("a", 0.8, 0), ("b", 0.6, 1), ("c", 0.5, 2))
    ]
    lineup = load_models(runs)
    document = document_of(lineup, [], {})
    best = {
        row[1].text: [cell.text for cell in row[2:] if cell.text.endswith(" best")]
        for row in document.headline.rows
    }
    assert len(best["top-1 accuracy (%) \N{UPWARDS ARROW}"]) == 1
    assert best["rank per image (index)"] == []
    near = [
        write_run(tmp_path / name, seed=seed, subject=name)
        for seed, name in enumerate(("d", "e", "f"))
    ]
    document = document_of(load_models(near), [], {})
    assert not any(cell.text.endswith("best") for row in document.headline.rows for cell in row)


def test_runs_over_other_images_stand_side_by_side_without_differences(write_run, tmp_path):
    first = write_run(tmp_path / "a")
    second = write_run(
        tmp_path / "b",
        change=lambda header: header["identity"]["source"].update(fingerprint="0" * 64),
    )
    document = document_of(load_models([first, second]), [], {})
    assert [model.name for model in document.subjects] == ["nano (a)", "nano (b)"]
    assert any("source.fingerprint" in box for box in document.boxes)
    assert {row[-1].text for row in document.headline.rows} == {"not paired"}
    assert "cannot be compared" in document.headline_note


def test_a_gate_is_the_first_sentence_and_its_metrics_the_headline(write_run, tmp_path, read_page):
    baseline = write_run(tmp_path / "base")
    run = write_run(tmp_path / "run", accuracy=0.6, seed=1)
    verdicts = check(run, baseline)
    write_report([run], verdicts=verdicts)
    page = read_page((run / "report.html").read_text("utf-8"))
    assert page.one("title").text.startswith("Gate failed")
    first = page.one("p", role="status")
    assert "accuracy.top1" in first.text
    lines = {line[1]: line for line in table(page, "headline")[1:]}
    top1 = lines["top-1 accuracy (%) \N{UPWARDS ARROW}"]
    assert "worse" in top1[-1]
    assert len(lines) == len(verdicts.of("pass", "warn", "fail", "error"))
    text = (run / "report.md").read_text("utf-8")
    assert "Gate failed" in text.splitlines()[2]


def test_page_and_markdown_tell_the_same_numbers(run_of, write):
    document = document_of(load_models([write(run_of())]), [], {})
    html, text = render_page(document), report_markdown(document)
    for row in document.headline.rows:
        for cell in row[2:4]:
            assert cell.text in html
            assert cell.text.strip() in text
    assert document.judgement.sentence in html.replace("&#39;", "'")


def test_the_papers_numbers_belong_to_its_own_checkpoints_only(run_of, write):
    rows = read_published()
    assert all(0 < row.value <= 1 or row.unit != "fraction" for row in rows)
    assert all(re.fullmatch(r"(Table|Figure) \d+", row.table) for row in rows)
    lineup = load_models([write(run_of())])
    (model,) = lineup.models
    ours = Row(study="accuracy", metric="top1", value=0.751, images=50_000)
    assert counterpart(model, ours) is None
    named = replace(model, header={"subjects": [{"released": "illama-tiny-in1k-75.0"}]})
    assert counterpart(named, ours).shown == "75.0 %"
    assert counterpart(named, structs.replace(ours, images=30)) is None
    assert counterpart(named, structs.replace(ours, metric="top5")) is None


def test_the_papers_number_stands_beside_ours_where_it_is_the_same(run_of, page_of):
    run = run_of()
    rows = [structs.replace(row, images=50_000) for row in run.rows]
    header = {**run.header, "subjects": [{"released": "illama-tiny-in1k-75.0"}]}
    head, first, *_ = table(page_of(replace(run, rows=tuple(rows), header=header)), "headline")
    assert (head[-1], first[-1]) == ("the paper's", "75.0 % (Table 6)")


def test_latex_cells_neither_end_nor_run(hostile_names):
    for name in [*hostile_names, "\\input{x} & % $ # _ { } ~ ^ [2ex]"]:
        cell = latex_cell(name)
        bare = re.sub(r"\\(?:[&%$#_{}]|text\w+\{\}|dots\{\})|\{\[\}|\$[-^][-2]?\$", "", cell)
        assert not re.search(r"[\\&%$#_{}~^\[\n]", bare), (name, cell)
    assert latex_cell("\N{MINUS SIGN}1.5 %") == "$-$1.5 \\%"


def test_latex_tables_have_a_cell_for_every_column(reported):
    for path in sorted((reported / "tables").glob("*.tex")):
        columns = 0
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("\\begin{tabular}"):
                columns = len(line.split("{")[2].rstrip("}"))
            elif line.endswith("\\\\"):
                assert len(re.split(r"(?<!\\)&", line)) == columns, line


@pytest.mark.parametrize("name", ["demo", "segmentation", "cifar10"])
def test_a_page_built_again_is_the_page_of_the_run(tmp_path, name):
    run = tmp_path / name
    shutil.copytree(EXAMPLES / name, run)
    render_directory(run)
    first = {file: (run / file).read_bytes() for file in ("report.html", "report.md")}
    write_report([run])
    assert first == {file: (run / file).read_bytes() for file in first}
