"""How often the 95 % intervals of every metric hold the truth, by simulation with the studies.

    python benchmarks/coverage.py [--studies rank lens] [--more 1] [--out docs/coverage.md]

Every draw makes up what a model shows of fresh images, in scenes of known truth, and passes it
through `measure` and `summarize`. The truth is what very many images show; of the rank of a mean
map, which falls with the number of images, what as many images show on average; of a scaled error,
that of the temperatures that were fitted. Prints the document and writes it to `--out`; of studies
that are not named it keeps the rows that are there.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from coverage_scenes import observe, scenes
from coverage_truths import FITTED, average_draws, find_truth, place_of

from illama_eval.results import Row
from illama_eval.studies import STUDIES

SIZES = (30, 100, 359, 2000)
DRAWS = (200, 200, 200, 80)
"""Draws of each scene at each of SIZES."""
MORE_DRAWS: Mapping[str, Sequence[int]] = {
    "calibration": (200, 200, 200, 200),
    "distance": (200, 200, 200, 200),
    "agreement": (1000, 1000, 1000, 400),
    "feature_agreement": (1000, 1000, 1000, 400),
}
"""The same of studies where these leave it open whether an interval covers."""
RARELY, FEW = 0.1, 20
"""Share and number of the draws that print an interval below which its coverage is not judged."""

Key = tuple[str, str, str, int]
"""Study, metric, scene and number of images."""


@dataclass
class Tally:
    """How the intervals of one metric did in one scene at one number of images."""

    defined: int = 0
    printed: int = 0
    covered: int = 0
    outside: int = 0
    """Intervals that exclude their own estimate."""
    flat: int = 0
    """Intervals of no width, of values that vary."""
    values: set[float] = field(default_factory=set)

    @property
    def share(self) -> float:
        """How often there is an interval where there is a value."""
        return self.printed / self.defined if self.defined else 0.0

    @property
    def judged(self) -> bool:
        """Whether there are intervals enough to say how often they cover."""
        return self.share >= RARELY and self.printed >= FEW

    @property
    def coverage(self) -> float:
        """How often an interval holds the truth, where there is one."""
        return self.covered / self.printed if self.printed else math.nan


def simulate(study: str, sizes: Sequence[int], draws: Mapping[int, int]) -> dict[Key, Tally]:
    """Return how the intervals of a study's metrics did, by metric, scene and size."""
    found: defaultdict[Key, Tally] = defaultdict(Tally)
    for scene in scenes()[study]:
        random = torch.Generator().manual_seed(1)
        fitted = FITTED[study](scene, random) if study in FITTED else None
        truth = fitted.known if fitted else find_truth(scene, random)
        for images in sizes:
            runs = []
            for _ in range(draws[images]):
                total = observe(scene, random, images)
                after = fitted.after_fit(total) if fitted else {}
                runs.append((scene.study.summarize(total).rows, after))
            own = {**truth, **average_draws(runs)}
            for rows, known in runs:
                for row in rows:
                    tally = found[study, row.metric, scene.name, images]
                    _count(tally, row, {**own, **known}.get(place_of(row)))
    return found


def _count(tally: Tally, row: Row, truth: float | None) -> None:
    if row.value is None or truth is None:
        return
    tally.defined += 1
    tally.values.add(row.value)
    if row.low is None or row.high is None:
        return
    near = 1e-9 * max(1.0, abs(truth))
    tally.printed += 1
    tally.covered += row.low - near <= truth <= row.high + near
    tally.outside += not row.low <= row.value <= row.high
    tally.flat += row.low == row.high and abs(row.value - truth) > near


def draws_of(study: str, more: float = 1.0) -> dict[int, int]:
    """Return how many draws of each scene there are at each number of images."""
    planned = zip(SIZES, MORE_DRAWS.get(study, DRAWS), strict=True)
    return {images: max(1, round(more * number)) for images, number in planned}


def simulate_all(studies: Sequence[str], more: float) -> dict[Key, Tally]:
    """Return the tallies of some studies, from so many times the planned draws."""
    found: dict[Key, Tally] = {}
    for study in studies:
        found |= simulate(study, SIZES, draws_of(study, more))
    return found


def to_markdown(found: Mapping[Key, Tally], more: float, kept: Sequence[str] = ()) -> str:
    """Return the document; `kept` are lines of another one, for studies that are not in `found`."""
    shown = {study: "/".join(map(str, draws_of(study, more).values())) for study in STUDIES}
    usual = "/".join(str(max(1, round(more * number))) for number in DRAWS)
    others = ", ".join(f"{study} {draws}" for study, draws in shown.items() if draws != usual)
    again = "" if more == 1 else f" --more {more:g}"
    about = (
        f"Made by `python benchmarks/coverage.py{again} --out docs/coverage.md`: every metric that "
        "prints a 95 % interval, in scenes of known truth, computed by the code of the studies.\n\n"
        f"- Draws of each scene at each n: {usual}; {others}. The standard error of a share of .95 "
        "is .015 among 200 draws, .024 among 80.\n"
        "- A cell is the lowest and the highest coverage among the scenes that print an interval "
        f"in at least a tenth of their draws, and at least {FEW} of them. In brackets: the share "
        "of draws that print one, where not all do.\n"
        "- A dash: no interval is printed, and the row of the run says why.\n"
        "- Rows by layer, head, class or bin count with their metric.\n"
        "- Some intervals always cover: those of a share that none of a scene's images has, or all "
        "have (Wilson's interval from 0, or to 1); of `class_row_mass`, which is 1 in these scenes "
        "but for rounding; and of `ece_floor` where all bins fill alike, so that it hardly varies, "
        "while its replicates hold different numbers of images.\n"
        "- The others above .995 are wider than they need be: errors of 30 to 100 images whose "
        "interval begins at 0, shape bias of 30 pictures, and the rank of the map of 30 images."
    )
    lines = [
        "# How often the intervals cover",
        "",
        about,
        "",
        "| study | metric | " + " | ".join(f"n = {images:,}" for images in SIZES) + " |",
        "| :--- | :--- |" + " ---: |" * len(SIZES),
    ]
    simulated = {study for study, *_ in found}
    for study in STUDIES:
        if study in simulated:
            lines += _rows(found, study)
        else:
            lines += [line for line in kept if line.startswith(f"| {study} |")]
    return "\n".join([*lines, ""])


def _rows(found: Mapping[Key, Tally], study: str) -> Iterator[str]:
    """Yield the lines of a study's metrics that ever have an interval."""
    for metric in dict.fromkeys(metric for other, metric, *_ in found if other == study):
        cells = [_cell(found, study, metric, images) for images in SIZES]
        if any(cell != "\N{EM DASH}" for cell in cells):
            yield f"| {study} | {metric} | {' | '.join(cells)} |"


def _cell(found: Mapping[Key, Tally], study: str, metric: str, images: int) -> str:
    mine = [t for (a, b, _, n), t in found.items() if (a, b, n) == (study, metric, images)]
    judged = [tally for tally in mine if tally.judged]
    if not judged:
        return "\N{EM DASH}"
    low, high = (end(tally.coverage for tally in judged) for end in (min, max))
    shown = f"{low:.3f} to {high:.3f}".replace("0.", ".")
    share = sum(t.printed for t in mine) / max(1, sum(t.defined for t in mine))
    return shown if share > 0.995 else f"{shown} ({share:.0%})"


def failures(found: Mapping[Key, Tally], least: float, most: float) -> Iterator[str]:
    """Yield what covers too seldom or too often, excludes its estimate, or has no width."""
    for (study, metric, scene, images), tally in found.items():
        where = f"{study}.{metric}, {scene}, n = {images}"
        if tally.judged and not least <= tally.coverage <= most:
            yield f"{where}: {tally.coverage:.3f} of {tally.printed}"
        if tally.outside or tally.flat:
            yield f"{where}: {tally.outside} outside, {tally.flat} without width"


def main() -> None:
    """Simulate; print or write the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--more", type=float, default=1.0, help="times the planned draws")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = simulate_all(arguments.studies, arguments.more)
    there = arguments.out is not None and arguments.out.exists()
    kept = arguments.out.read_text(encoding="utf-8").splitlines() if there else ()
    text = to_markdown(found, arguments.more, kept)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")
    print(text)
    for problem in failures(found, 0.9, 0.995):
        print(problem)


if __name__ == "__main__":
    main()
