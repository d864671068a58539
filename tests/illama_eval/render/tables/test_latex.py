from __future__ import annotations

import re

import numpy as np
import pytest

from illama_eval.render import write_report
from illama_eval.render.tables.text import latex_cell


def save(run, directory):
    """Write run.json into a new directory."""
    directory.mkdir(parents=True)
    (directory / "run.json").write_text(run.to_json(), encoding="utf-8")
    return directory


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
