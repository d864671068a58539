from __future__ import annotations

from illama_eval.compare.gate import check
from illama_eval.render import write_report


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
    assert "McNemar" in page.one("section", id="changes").text
    flips = table(page, "flips-0")
    assert sum(int(cell) for line in flips[1:] for cell in line[1:]) == 400
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
