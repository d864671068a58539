"""Tables of models for papers: what LaTeX, Markdown and CSV say of the same numbers."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess

import pytest

from illama_eval.compare.model_table import read_model_table
from illama_eval.render.tables.models import models_to_csv, models_to_latex, models_to_markdown
from illama_eval.results import Run


@pytest.fixture
def table(write_run, tmp_path):
    paths = [
        str(write_run(tmp_path / name, accuracy=accuracy, seed=seed, subject=name))
        for seed, (name, accuracy) in enumerate({"good_one": 0.9, "worse & \\bad": 0.6}.items())
    ]
    return read_model_table(paths, ["top1", "nll", "rank_per_image"])


def test_markdown_shows_interval_bold_best_and_what_it_means(table):
    text = models_to_markdown(table)
    head, _, good, worse, _, note = text.splitlines()
    assert head == "| model | top-1 accuracy (%) ↑ | NLL (nats) ↓ | rank per image |"
    assert good.startswith("| good_one | **")
    assert " to " in good
    assert "**" not in worse
    assert note.startswith("Measured on cifar10 (400 images). Small print: 95 % interval")
    assert "Bold: better than every other model" in note


def test_nothing_in_the_name_of_a_source_is_markup(write_run, tmp_path):
    run = str(write_run(tmp_path / "one", source="<i>a_set"))
    note = models_to_markdown(read_model_table([run], ["top1"])).splitlines()[-1]
    assert "<i>" not in note
    assert "a_set" in note


def test_columns_of_one_layer_are_headed_by_it(write_run, tmp_path):
    run = str(write_run(tmp_path / "one"))
    names = ["rank_per_image", "rank.rank_per_image[layer=2]"]
    head = models_to_markdown(read_model_table([run], names)).splitlines()[0]
    assert head == "| model | rank per image | rank per image, layer 2 |"


def test_the_plus_minus_form_covers_the_interval(table, tmp_path):
    row = Run.load(tmp_path / "good_one").value("accuracy", "top1")
    text = models_to_markdown(table, "pm")
    shown = text.splitlines()[2].split("|")[2].replace("*", "").split("±")
    farther = 100 * max(row.high - row.value, row.value - row.low)
    assert float(shown[0]) == pytest.approx(100 * row.value, abs=0.1)
    assert float(shown[1]) == pytest.approx(farther, abs=0.1)
    assert "distance to the farther end" in text
    assert "±" not in models_to_markdown(table, "none")


def test_csv_has_fractions_and_every_end(table, tmp_path):
    first, second = csv.DictReader(io.StringIO(models_to_csv(table)))
    row = Run.load(tmp_path / "good_one").value("accuracy", "top1")
    assert float(first["accuracy.top1"]) == row.value
    assert float(first["accuracy.top1.low"]) == row.low
    assert (first["images"], first["seeds"], second["source"]) == ("400", "1", "cifar10")


def test_latex_escapes_names_and_keeps_caption_and_label(table):
    text = models_to_latex(table, caption="Accuracy of A & B", label="tab:models")
    assert r"\caption{Accuracy of A \& B}" in text
    assert r"\label{tab:models}" in text
    assert r"worse \& \textbackslash{}bad" in text
    assert r"\textbf{" in text
    assert r"{\scriptsize " in text
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in lines} == {3}


def test_models_of_other_images_say_so_in_a_column(write_run, tmp_path, table):
    def elsewhere(header):
        header["identity"]["source"].update(fingerprint="0")

    other = write_run(tmp_path / "other", subject="other", source="photos", change=elsewhere)
    mixed = read_model_table([str(tmp_path / "good_one"), str(other)], ["top1"])
    text = models_to_markdown(mixed)
    assert text.splitlines()[0].startswith("| model | images |")
    assert "| photos, 400 |" in text
    assert "different images" in text


@pytest.mark.slow
@pytest.mark.parametrize("intervals", ["small", "pm", "none"])
def test_latex_compiles(table, tmp_path, intervals):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    paper = (
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}"
        f"\\begin{{document}}{models_to_latex(table, intervals, label='tab:x')}\\end{{document}}"
    )
    (tmp_path / "paper.tex").write_text(paper, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000
