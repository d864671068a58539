from __future__ import annotations

from illama_eval.compare.gate import check
from illama_eval.render import write_report


def test_the_headline_holds_the_most_telling_numbers_with_their_intervals(table, run_of, page_of):
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
    assert "accuracy.top1" in first.text
    lines = {line[1]: line for line in table(page, "headline")[1:]}
    top1 = lines["top-1 accuracy (%) \N{UPWARDS ARROW}"]
    assert "worse" in top1[-1]
    assert len(lines) == len(verdicts.of("pass", "warn", "fail", "error"))
    text = (run / "report.md").read_text("utf-8")
    assert "Gate failed" in text.splitlines()[2]
