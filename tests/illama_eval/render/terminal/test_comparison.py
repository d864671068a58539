from __future__ import annotations

import re
from functools import partial

from illama_eval.compare.comparison import compare_paths
from illama_eval.render.terminal.comparison import show_comparison


def test_a_comparison_shows_differences_flips_and_what_intervals_cover(printed, worse, tmp_path):
    (compared,) = compare_paths(str(tmp_path / "a"), str(tmp_path / "b"))
    text = " ".join(printed(show_comparison, compared).split())
    flips = compared.flips
    assert f"Of 400 images {flips.changed} get another answer: {flips.lost} right ones" in text
    assert "Intervals cover the choice of images, not training seeds." in text
    assert "also different: weights sha256" in text
    assert re.search(r"top-1 accuracy .* ▼", text)


def test_the_table_is_short_unless_everything_is_asked_for(printed, worse, tmp_path):
    (compared,) = compare_paths(str(tmp_path / "a"), str(tmp_path / "b"))
    short = printed(show_comparison, compared)
    every = printed(partial(show_comparison, everything=True), compared)
    assert "top-1 accuracy" in short
    hidden = int(re.search(r"numbers differ clearly; (\d+) others: --all", short).group(1))
    assert len(every.splitlines()) >= len(short.splitlines()) + hidden
    assert "others: --all" not in every


def test_a_terminal_of_50_columns_keeps_names_and_whole_intervals(printed, worse, tmp_path):
    (compared,) = compare_paths(str(tmp_path / "a"), str(tmp_path / "b"))
    text = printed(show_comparison, compared, width=50)
    assert max(map(len, text.splitlines())) <= 50
    (line,) = (line for line in text.splitlines() if "top-1 accuracy" in line)
    wide = printed(show_comparison, compared, width=100)
    (other,) = (line for line in wide.splitlines() if "top-1 accuracy" in line)
    interval = re.compile(r"\S+ to \S+")
    assert interval.search(line).group() == interval.search(other).group()


def test_groups_of_seeds_show_both_intervals(printed, write_run, tmp_path):
    def group(side, accuracy, seeds):
        runs = [write_run(tmp_path / f"{side}{n}", accuracy=accuracy, seed=n) for n in seeds]
        return ",".join(map(str, runs))

    paths = group("a", 0.8, (1, 2)), group("b", 0.6, (3, 4))
    (compared,) = compare_paths(*paths)
    text = printed(show_comparison, compared)
    top1 = text.splitlines().index(next(line for line in text.splitlines() if "top-1" in line))
    assert " to " in text.splitlines()[top1 + 1]
    assert "Intervals over seeds (Welch)" in text
