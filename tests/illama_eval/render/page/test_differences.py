from __future__ import annotations

from illama_eval.compare.gate import check
from illama_eval.render import write_report
from illama_eval.render.models import load_models
from illama_eval.render.page.differences import changes_of
from illama_eval.render.page.findings import summary
from illama_eval.render.page.headline import headline_note, headline_table
from illama_eval.statistics import mcnemar


def test_two_runs_have_paired_differences_and_say_what_intervals_cover(
    table, write_run, tmp_path, read_page
):
    runs = [
        write_run(tmp_path / name, accuracy=accuracy, seed=seed, subject=name)
        for name, accuracy, seed in (("a", 0.8, 0), ("b", 0.6, 1))
    ]
    out = tmp_path / "out"
    write_report(runs, out)
    page = read_page((out / "report.html").read_text("utf-8"))
    head, *lines = table(page, "headline")
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in head[2:5]] == [
        "\N{BLACK CIRCLE} a",
        "\N{BLACK DIAMOND} b",
        "\N{BLACK DIAMOND} \N{MINUS SIGN} \N{BLACK CIRCLE}, paired",
    ]
    found = {line[1]: line[-1] for line in lines}
    assert found["top-1 accuracy (%) \N{UPWARDS ARROW}"] == "\N{BLACK CIRCLE} better"
    assert found["rank per image (index)"] == "differs"
    assert "not training seeds" in page.one("section", id="headline-section").text
    flips = table(page, "flips-0")
    assert sum(int(cell) for line in flips[1:] for cell in line[1:]) == 400
    test = mcnemar(lost=int(flips[1][2]), gained=int(flips[2][1]))
    assert test.p == test.mid != test.exact
    assert f"McNemar's p {test.p:.3g})" in page.one("section", id="changes").text
    assert (out / "tables" / "models.tex").read_text("utf-8").count("\\toprule") == 1


def test_a_gate_is_the_first_sentence_and_its_metrics_the_headline(
    table, write_run, tmp_path, read_page
):
    baseline = write_run(tmp_path / "base")
    run = write_run(tmp_path / "run", accuracy=0.6, seed=1)
    verdicts = check(run, baseline)
    write_report([run], result=verdicts)
    page = read_page((run / "report.html").read_text("utf-8"))
    assert page.one("title").text.startswith("Gate failed")
    first = page.one("p", role="status")
    assert "top-1 accuracy" in first.text
    lines = {line[1]: line for line in table(page, "headline")[1:]}
    top1 = lines["top-1 accuracy (%) \N{UPWARDS ARROW}"]
    assert "worse" in top1[-1]
    assert len(lines) == len(verdicts.of("pass", "warn", "fail", "error"))
    text = (run / "report.md").read_text("utf-8")
    assert "Gate failed" in text.splitlines()[2]


def test_runs_that_do_not_differ_have_a_sentence_and_no_empty_table(write_run, tmp_path):
    runs = [write_run(tmp_path / name, subject=name) for name in ("a", "b")]
    section = changes_of(load_models(runs))
    (found,) = section.findings
    assert found.endswith(": all 400 images get the same answer; no number differs clearly.")
    assert all(table.rows for table in section.tables)


def test_without_replicates_nothing_is_called_equal(write_run, tmp_path):
    runs = [write_run(tmp_path / name, subject=name) for name in ("a", "b")]
    for run in runs:
        (run / "replicates.npz").unlink()
        (run / "per_image.npz").unlink()
    models = load_models(runs)
    assert not models.paired
    assert "differ" not in summary(models)
    assert "no paired intervals" in headline_note(models)
    assert [column.label for column in headline_table(models).columns[4:]] == []
