"""`compare` and `report` from the command line: what they print, write, and exit with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from illama_eval.commands.options import ALL_STUDIES
from illama_eval.results import Run

DRAWING = "drawing figures and page\n"


@pytest.fixture
def quick(monkeypatch):
    """Leave out the page, which tests of its own look at; return what it would have been of."""
    asked = []

    def write(directories, out, verdicts, *, figures):
        assert not figures
        asked.append((list(directories), out, verdicts))
        return [Path(directories[0]) / "report.html"]

    monkeypatch.setattr("illama_eval.commands.report.write_report", write)
    return asked


def test_compare_prints_a_table_or_json(command, write_run, tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", accuracy=0.7, seed=1)
    code, out, _ = command("compare", "a", "b")
    assert code == 0
    assert "top-1 accuracy" in out
    assert "layer 1" not in out
    assert "layer 1" in command("compare", "a", "b", "--everywhere")[1]
    code, out, _ = command("compare", "a", "b", "--json")
    assert code == 0
    assert json.loads(out)["comparisons"][0]["baseline"] == ["a"]


def test_compare_refuses_in_one_line(command, write_run, tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", change=lambda h: h["identity"]["source"].update(fingerprint="0"))
    code, out, err = command("compare", "a", "b")
    assert (code, out) == (3, "")
    assert err.startswith("illama-eval: a and b are not comparable: source.fingerprint is ")
    assert len(err.splitlines()) == 1
    assert command("compare", "a", "nothing")[0] == 3
    assert command("compare", "a")[0] == 2


@pytest.mark.parametrize(("accuracy", "code"), [(0.8, 0), (0.6, 1)])
def test_the_exit_code_is_that_of_the_printed_verdict(
    command, quick, write_run, tmp_path, accuracy, code
):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", accuracy=accuracy)
    given = "report", "b", "--baseline", "a", "--junit", "junit.xml", "--summary", "summary.md"
    found, out, _ = command(*given)
    assert found == code
    assert out.startswith(("No regression found", "Regression in")[code])
    junit, summary = (Path(name).read_text(encoding="utf-8") for name in given[5::2])
    assert f'name="exit_code" value="{code}"' in junit
    assert " ".join(out.split()).split(": ")[0] in summary
    found, out, _ = command("report", "b", "--baseline", "a", "--json")
    assert found == json.loads(out)["exit_code"] == code
    assert quick[-1][2].exit_code == code


def test_a_missing_baseline_exits_3_and_writes_what_ci_reads(command, quick, write_run, tmp_path):
    write_run(tmp_path / "run")
    code, out, _ = command("report", "run", "--baseline", "no.json", "--junit", "junit.xml")
    assert code == 3
    assert out.startswith("Not judged: no.json: cannot be read")
    assert 'errors="1"' in Path("junit.xml").read_text(encoding="utf-8")


def test_update_baseline_writes_it_and_the_next_run_passes(command, quick, write_run, tmp_path):
    write_run(tmp_path / "run")
    write_run(tmp_path / "again")
    code, out, err = command("report", "run", "--baseline", "reports/b.json", "--update-baseline")
    assert (code, out) == (0, "")
    assert "reports/b.json is now the headline of run" in err
    assert command("report", "again", "--baseline", "reports/b.json")[0] == 0
    assert Run.load("reports/b.json").rows == Run.load("run", headline=True).rows


def test_a_policy_is_followed_and_refused_by_name(command, quick, write_run, tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", accuracy=0.6)
    policy = Path("gate.toml")
    lenient = [
        f'[metrics.{study}."*"]\nseverity = "warn"\n' for study in ("accuracy", "calibration")
    ]
    policy.write_text("".join(lenient), encoding="utf-8")
    assert command("report", "b", "--baseline", "a", "--policy", policy)[0] == 0
    policy.write_text("strict = true", encoding="utf-8")
    code, _, err = command("report", "b", "--baseline", "a", "--policy", policy)
    assert (code, err) == (3, "illama-eval: gate.toml: Object contains unknown field `strict`\n")


@pytest.mark.parametrize(
    "words",
    [
        ("report", "run", "--junit", "junit.xml"),
        ("report", "run", "--update-baseline"),
        ("report", "run", "other", "--baseline", "b.json"),
        ("report", "--baseline", "b.json"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(command, words):
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


def test_without_runs_every_run_below_reports_gets_its_page(command, quick, write_run, tmp_path):
    for name in ("one", "two"):
        write_run(tmp_path / "reports" / name / "run")
    assert command("report")[0] == 0
    assert [[str(path) for path in runs] for runs, _, _ in quick] == [
        ["reports/one/run"],
        ["reports/two/run"],
    ]
    assert command("report", "reports/one/run", "reports/two/run", "--out", "both")[0] == 0
    assert (len(quick[-1][0]), quick[-1][1]) == (2, Path("both"))


def test_without_any_run_the_demo_is_measured_first(
    command, quick, write_run, tmp_path, monkeypatch
):
    asked = []

    def measure(shared, name, studies):
        if not asked:
            write_run(tmp_path / "reports" / "demo" / "run")
        asked.append((shared.checkpoints, name, list(studies)))
        return 0

    monkeypatch.setattr("illama_eval.commands.evaluate.measure", measure)
    assert command("report")[0] == command("run")[0] == 0
    assert asked[0] == asked[1] == (None, "run", list(ALL_STUDIES))
    assert [str(path) for path in quick[0][0]] == ["reports/demo/run"]


def test_comparing_and_reporting_do_not_load_torch(write_run, tmp_path):
    program = """
import sys
from illama_eval.cli import app
for words in (["compare", "a", "b"], ["report", "b", "--baseline", "a"]):
    app(words, standalone_mode=False)
    assert "torch" not in sys.modules, words
"""
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", seed=1)
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b" / "report.html").stat().st_size > 10_000


def test_a_second_comparison_has_a_folder_of_its_own(command, sketched, write_run, tmp_path):
    for name in ("a", "b", "c"):
        write_run(tmp_path / name, subject=name)
    pages = []
    for words in (("a", "b"), ("a", "c"), ("a", "b")):
        code, _, err = command("report", *words)
        assert code == 0, err
        pages.append((tmp_path / err.split("written to ")[1].strip()).parent)
    first, second, again = pages
    assert first == again != second
    assert [page.name.rsplit("-", 1)[0] for page in (first, second)] == [
        "comparison-a-and-b",
        "comparison-a-and-c",
    ]
    assert " c " in (second / "report.md").read_text("utf-8")
    assert " c " not in (first / "report.md").read_text("utf-8")


def test_figures_are_files_where_they_are_asked_for(command, sketched, write_run, tmp_path):
    write_run(tmp_path / "a")
    assert command("report", "a")[0] == 0
    assert not (tmp_path / "a" / "figures").exists()
    code, _, err = command("report", "a", "--figures")
    assert (code, err) == (0, f"{DRAWING}written to a/report.html\n")
    assert (tmp_path / "a" / "figures").exists()


def test_figures_for_a_paper_have_its_width_and_no_caption(command, write_run, tmp_path):
    for name in ("a", "b", "c"):
        write_run(tmp_path / name, subject=name)
    given = ("--figures", "--style", "paper", "--width", "3.25", "--font-size", "7")
    code, _, err = command("report", "a", "b", "c", "--out", "all", *given)
    assert code == 0, err
    found = {path.suffix for path in (tmp_path / "all" / "figures").glob("forest.*")}
    assert found == {".png", ".svg", ".pdf", ".txt"}
    with Image.open(tmp_path / "all" / "figures" / "forest.png") as image:
        assert image.size[0] == 3.25 * 400


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (("--figures", "--width", "1"), "with a font of 9.6 points it is from 3.80"),
        (("--figures", "--font-size", "99"), "it is from 4 to 24 points"),
        (("--style", "paper"), "needed by --style"),
    ],
)
def test_figures_that_cannot_be_drawn_are_refused(command, write_run, tmp_path, given, wrong):
    write_run(tmp_path / "a")
    code, _, err = command("report", "a", *given)
    assert code == 2
    assert wrong in " ".join(err.split())


def test_several_models_are_written_to_the_folder_of_their_page(
    command, sketched, write_run, tmp_path
):
    for name in ("a", "b", "c"):
        write_run(tmp_path / name, subject=name)
    code, _, err = command("report", "a", "b", "c", "--out", "all", "--figures")
    assert (code, err) == (0, f"{DRAWING}written to all/report.html\n")
    assert (tmp_path / "all" / "figures" / "forest.svg").exists()
    assert "figures/forest.png" in (tmp_path / "all" / "report.md").read_text("utf-8")
