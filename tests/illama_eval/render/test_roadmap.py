from __future__ import annotations

import csv
from dataclasses import replace

from illama_eval.render.roadmap import answers, show_roadmap, table_of, write_roadmap
from illama_eval.render.roadmap_runs import read_runs


def test_the_csv_has_a_line_per_run_with_full_digits(road):
    write_roadmap(road)
    with (road / "roadmap.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    runs = read_runs(road).runs
    assert [(line["step"], line["seed"]) for line in lines] == [
        ("front", "0"),
        ("behind", "0"),
        ("behind", "1"),
    ]
    assert [float(line["top1"]) for line in lines] == [run.values["top1"] for run in runs]
    assert {line["rank_used"] for line in lines} == {""}


def test_several_seeds_become_a_mean_and_half_its_interval(road):
    head, lines = table_of(read_runs(road))
    front, behind = (dict(zip(head, line, strict=True)) for line in lines)
    assert (front["seeds"], behind["seeds"]) == ("1", "2")
    assert front["train loss"] == "1.700"
    assert behind["train loss"] == "1.25 ± 0.64"  # 12.7 (Student's t) x 0.05
    assert (front["paper, T %"], behind["paper, T %"]) == ("0.1", "\N{EM DASH}")
    assert (front["class token"], behind["class token"]) == ("isolated", "attends")


def test_a_question_is_answered_if_both_its_steps_have_runs(road):
    ((question, answer),) = answers(read_runs(road))
    assert question == "Does it help?"
    assert answer.startswith("No difference seen: `behind` \N{MINUS SIGN} `front` = +")
    assert "95 % interval over 1 and 2 seeds: \N{MINUS SIGN}" in answer


def test_a_question_whose_interval_holds_zero_is_answered_so(road):
    runs = read_runs(road)
    plan = {**runs.plan, "questions": [["behind", "behind", "Is it itself?"]]}
    ((_, answer),) = answers(replace(runs, plan=plan))
    assert answer.startswith("No difference seen: `behind` \N{MINUS SIGN} `behind` = +0.0")
    assert "95 % interval over 2 and 2 seeds: " in answer


def test_the_markdown_says_how_all_were_trained(road):
    paths = {path.name for path in write_roadmap(road)}
    assert paths == {"roadmap.csv", "roadmap.md", "roadmap.png", "roadmap.svg", "roadmap.txt"}
    text = (road / "roadmap.md").read_text("utf-8")
    assert "size nano, 3,200 images of two, 2 epochs, batch 16, learning rate 0.002" in text
    assert "- **Does it help?** No difference seen: `behind`" in text


def test_the_terminal_shows_steps_and_answers(road, printed):
    text = printed(show_roadmap, road)
    assert max(map(len, text.splitlines())) <= 80
    assert "isolated" in text
    assert "Does it help? No difference seen: behind \N{MINUS SIGN} front = +" in " ".join(
        text.split()
    )
