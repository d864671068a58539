from __future__ import annotations

import re

from illama_eval.compare.comparison import compare_paths
from illama_eval.render.terminal.comparison import show_comparison


def test_a_comparison_shows_differences_flips_and_what_intervals_cover(printed, worse, tmp_path):
    (compared,) = compare_paths(str(tmp_path / "a"), str(tmp_path / "b"))
    text = " ".join(printed(show_comparison, compared).split())
    assert f"{compared.flips.lost} lost, {compared.flips.gained} gained of 400 images" in text
    assert "Intervals cover the choice of images, not training seeds." in text
    assert "also different: weights_sha256" in text
    assert re.search(r"top-1 accuracy .* ▼", text)


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
