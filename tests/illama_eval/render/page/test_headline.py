from __future__ import annotations

import numpy as np
import pytest

from illama_eval.compare.gate import check
from illama_eval.render import write_report
from illama_eval.render.models import load_models
from illama_eval.render.page.build import document_of
from illama_eval.render.page.html import render_page


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


def test_a_gate_is_the_first_sentence_and_its_metrics_the_headline(write_run, tmp_path, read_page):
    baseline = write_run(tmp_path / "base")
    run = write_run(tmp_path / "run", accuracy=0.6, seed=1)
    verdicts = check(run, baseline)
    write_report([run], result=verdicts)
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
