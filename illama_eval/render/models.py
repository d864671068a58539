"""The models of a report, subjects of one run or of several, loaded from their directories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import Any

from illama_eval.compare.change import Change
from illama_eval.compare.comparison import Comparison, compare, find_best
from illama_eval.compare.consistency import check_run
from illama_eval.compare.subject_run import read_subject_runs
from illama_eval.render.attention_maps import Maps, maps_of
from illama_eval.render.format.escape import sanitize
from illama_eval.render.format.numbers import show_images
from illama_eval.render.style.palette import RUNS, Identity, looks_of
from illama_eval.results import ResultError, Row, Run, nested_get

SYMBOLS: Mapping[str, str] = {
    "o": "\N{BLACK CIRCLE}",
    "D": "\N{BLACK DIAMOND}",
    "^": "\N{BLACK UP-POINTING TRIANGLE}",
    "s": "\N{BLACK SQUARE}",
    "P": "\N{HEAVY GREEK CROSS}",
    "X": "\N{HEAVY MULTIPLICATION X}",
}
"""The figures' markers as characters."""
MOST_TOLD_APART = len(RUNS)
"""Models up to which each has a colour; of more, the page folds away what is of single ones."""
NAMED = 3
"""Models up to which a sentence names each."""
_LONGEST_NAME = 120


@dataclass(frozen=True, kw_only=True)
class ReportModel:
    """One model: a column of the report."""

    name: str
    """Its name in `ReportModels.run`."""
    look: Identity
    directory: Path
    header: Mapping[str, Any]
    """Of the run that it comes from."""
    number: int
    """Its index among the subjects of that run."""

    @property
    def label(self) -> str:
        """Return the name as one line."""
        return sanitize(self.name, _LONGEST_NAME)

    @property
    def symbol(self) -> str:
        """Return the marker as a character."""
        return SYMBOLS[self.look.marker]

    @property
    def described(self) -> Mapping[str, Any]:
        """Return the header's record of the model."""
        known = self.header.get("subjects")
        each = known[self.number] if isinstance(known, list) and self.number < len(known) else {}
        return each if isinstance(each, Mapping) else {}

    @property
    def images(self) -> str:
        """Return what it was measured on: the source, its split and how many images."""
        source = self.known("source") or {}
        name = "/".join(str(source[key]) for key in ("name", "split") if source.get(key))
        seen = self.known("images_seen")
        count = show_images(seen) if isinstance(seen, int) else "images unknown"
        return sanitize(f"{name or 'source unknown'}, {count}", _LONGEST_NAME)

    def known(self, *keys: str) -> Any:
        """Return what the header holds under these keys, or None."""
        return nested_get(self.header, *keys)


@dataclass(frozen=True, kw_only=True)
class ReportModels:
    """The models in their order, with all that was measured of them as one run."""

    models: Sequence[ReportModel]
    run: Run
    compared: Mapping[tuple[str, str], Comparison] = field(default_factory=dict)
    """Comparisons of every two models, in their order; none if a header lacks its identity."""
    apart: Sequence[str] = ()
    """Why numbers of some models must not be subtracted, one reason each."""

    def __iter__(self) -> Iterator[ReportModel]:
        """Return the models one by one."""
        return iter(self.models)

    def __len__(self) -> int:
        """Return the number of models."""
        return len(self.models)

    @cached_property
    def paired(self) -> bool:
        """Whether numbers of any two models have a paired difference."""
        return not self.apart and any(
            change.low is not None
            for comparison in self.compared.values()
            for change in comparison.changes
        )

    @cached_property
    def sources(self) -> Sequence[str]:
        """What the models were measured on, each set of images once."""
        found = {str(model.known("source", "fingerprint")): model.images for model in self}
        return list(found.values())

    def say_names(self, members: Sequence[ReportModel]) -> str:
        """Return whom a sentence is about: each name up to three, or how many the models are."""
        if len(members) <= NAMED:
            return ", ".join(f"{model.symbol} {model.label}" for model in members)
        whole = len(members) == len(self)
        return f"Each of the {len(self)} models" if whole else f"{len(members)} models"

    def column(self, model: ReportModel) -> str:
        """Return the head of a model's column: its images, too, where they are not everyone's."""
        name = f"{model.symbol} {model.label}"
        return name if len(self.sources) == 1 else f"{name} on {model.images}"

    @cached_property
    def headline(self) -> Mapping[tuple[str, str], Mapping[str, Row]]:
        """Return rows for the whole source: (study, metric) -> model -> row."""
        found: dict[tuple[str, str], dict[str, Row]] = {}
        for row in self.run.rows:
            if not row.at:
                found.setdefault((row.study, row.metric), {})[row.subject] = row
        return found

    @cached_property
    def maps(self) -> Sequence[Maps]:
        """Ranks and singular values of every model's attention maps."""
        return maps_of(self.run)

    def change(self, first: str, second: str, study: str, metric: str) -> Change | None:
        """Return the change of a number for the whole source; None without a paired interval."""
        comparison = self.compared.get((first, second))
        if comparison is None:
            return None
        key = (study, metric, ())
        found = (each for each in comparison.changes if each.key == key)
        return next((each for each in found if each.low is not None), None)

    def best(self, study: str, metric: str) -> str | None:
        """Return the model whose number is clearly better than every other's, or None."""
        names = [model.name for model in self.models]
        return find_best(names, lambda first, second: self.change(first, second, study, metric))

    def changes_from_first(self, study: str, metric: str) -> dict[str, Change]:
        """Return the change of a number from the first model to each other one, where known."""
        names = [model.name for model in self]
        found = {name: self.change(names[0], name, study, metric) for name in names[1:]}
        return {name: change for name, change in found.items() if change is not None}


def load_models(directories: Sequence[Path]) -> ReportModels:
    """Return the models of these run directories.

    Raises:
        ResultError: a directory holds no readable run, or one whose parts do not fit together.
    """
    runs = [Run.load(directory, replicates=False) for directory in directories]
    for run, directory in zip(runs, directories, strict=True):
        check_run(run, directory)
    names = _unique(runs, directories)
    renamed = [run.renamed(mine) for run, mine in zip(runs, names, strict=True)]
    whole = renamed[0] if len(runs) == 1 else _joined(renamed)
    looks = dict(looks_of(whole))
    models = [
        ReportModel(
            name=name, look=looks[name], directory=directory, header=run.header, number=number
        )
        for run, directory, mine in zip(renamed, directories, names, strict=True)
        for number, name in enumerate(mine.values())
    ]
    read = dict(zip(directories, runs, strict=True))
    compared, apart = _compare(models, read) if len(models) > 1 else ({}, [])
    return ReportModels(models=models, run=whole, compared=compared, apart=apart)


def _compare(
    models: Sequence[ReportModel], read: Mapping[Path, Run]
) -> tuple[dict[tuple[str, str], Comparison], list[str]]:
    """Compare every two models; return also why some of their numbers must not be subtracted."""
    try:
        runs = {directory: read_subject_runs(directory, run=run) for directory, run in read.items()}
    except ResultError as problem:
        return {}, [without_paths(str(problem), read)]
    measured = {
        model.name: replace(runs[model.directory][model.number], path=model.name)
        for model in models
    }
    compared = {
        (first, second): compare([measured[first]], [measured[second]])
        for first, second in _pairs(list(measured), read)
    }
    apart = dict.fromkeys(
        f"{second}, beside {first}: {mismatch.field} is {mismatch.candidate}, "
        f"not {mismatch.baseline}"
        for (first, second), comparison in compared.items()
        for mismatch in comparison.mismatches
    )
    return compared, list(apart)


def _pairs(names: Sequence[str], read: Mapping[Path, Run]) -> Iterator[tuple[str, str]]:
    """Yield every two models; of one model over a range, its reference and each other alone."""
    variables = [nested_get(run.header, "variable") for run in read.values()]
    if len(variables) > 1 or variables == [None]:
        yield from combinations(names, 2)
        return
    reference = nested_get(variables[0], "reference")
    if reference in names:
        yield from ((reference, name) for name in names if name != reference)


def without_paths(text: str, paths: Iterable[Path]) -> str:
    """Return the text with file names for paths, which would show where somebody keeps files."""
    for path in paths:
        text = text.replace(str(path), path.resolve().name)
    return text


def _unique(runs: Sequence[Run], directories: Sequence[Path]) -> list[dict[str, str]]:
    """Return the names of each run's subjects in the report, by subject: no two alike."""
    subjects = [list(dict.fromkeys(row.subject for row in run.rows)) for run in runs]
    count = Counter(chain.from_iterable(subjects))
    taken: set[str] = set()
    names: list[dict[str, str]] = []
    for given, directory in zip(subjects, directories, strict=True):
        mine = {}
        for name in given:
            longer = f"{name} ({directory.resolve().name})" if count[name] > 1 else name
            while longer in taken:
                longer += "\N{PRIME}"
            taken.add(longer)
            mine[name] = longer
        names.append(mine)
    return names


def _joined(runs: Sequence[Run]) -> Run:
    """Return all rows under the first header, with the metrics that the other headers declare."""
    declared = [nested_get(run.header, "metrics") for run in runs]
    metrics = {
        study: known
        for each in reversed(declared)
        if isinstance(each, Mapping)
        for study, known in each.items()
    }
    return Run(
        header={**runs[0].header, "metrics": metrics},
        rows=tuple(row for run in runs for row in run.rows),
        curves=tuple(curve for run in runs for curve in run.curves),
        verdicts=tuple(verdict for run in runs for verdict in run.verdicts),
    )
