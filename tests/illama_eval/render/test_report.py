from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from illama_eval.render import render_directory, write_report

EXAMPLES = Path(__file__).parents[3] / "reports" / "examples"


@pytest.mark.parametrize(
    "name", ["demo", "segmentation", pytest.param("cifar10", marks=pytest.mark.slow)]
)
def test_a_page_built_again_is_the_page_of_the_run(tmp_path, name):
    run = tmp_path / name
    shutil.copytree(EXAMPLES / name, run)
    render_directory(run)
    first = {file: (run / file).read_bytes() for file in ("report.html", "report.md")}
    write_report([run])
    assert first == {file: (run / file).read_bytes() for file in first}
