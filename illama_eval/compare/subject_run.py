"""One subject of a stored run, read for comparing, and the fields in which two of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from illama_eval.compare.consistency import RECORDS, check_run, read_records
from illama_eval.results import ResultError, Row, Run, files_of, nested_get

Key: TypeAlias = tuple[str, str, tuple[tuple[str, int | str], ...]]
"""Study, metric and `at`."""

SHOWN = 12
"""Characters of a digest, or of another long value, that a message shows."""


def key_of(row: Row) -> Key:
    """Return what a number of a model is found by, in any of its runs."""
    return row.study, row.metric, tuple(row.at.items())


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A field in which two runs differ."""

    field: str
    baseline: str
    candidate: str
    study: str = ""
    """The only study that it concerns; empty: all."""

    def __str__(self) -> str:
        meaning = ", so they saw other images" if self.field == "source.fingerprint" else ""
        return f"{self.field} is {self.baseline} in the baseline and {self.candidate} here{meaning}"


@dataclass(frozen=True, kw_only=True)
class SubjectRun:
    """One subject of one run."""

    path: str
    """The run directory or baseline file, as given."""
    subject: str
    header: Mapping[str, Any]
    identity: Mapping[str, Any]
    """Of the subject: weights, config, transform, dtype."""
    rows: Mapping[Key, Row]
    ids: NDArray[np.str_] | None = None
    records: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """By name, [image] in the order of `ids`; empty where no records are stored."""
    bound: bool = True
    """Whether its run names the digests of its files."""

    @property
    def groups(self) -> int | None:
        """The number of groups that its images are in, the fewest where they are in several ways.

        None where the images are independent.
        """
        found = nested_get(self.header, "source", "groups")
        counts = list(found.values()) if isinstance(found, Mapping) else []
        return min(counts) if counts and all(isinstance(each, int) for each in counts) else None

    def without_rows(self) -> SubjectRun:
        """Return the same subject as if nothing had been measured."""
        return replace(self, rows={}, ids=None, records={})


def read_subject_runs(
    path: Path, *, everywhere: bool = False, run: Run | None = None
) -> tuple[SubjectRun, ...]:
    """Return the subjects of a run directory or a baseline file.

    Rows for the whole source only, with `everywhere` those by layer, head or bin as well. `run`
    is what the directory holds, where it has been read before.

    Raises:
        ResultError: there is no run, it is damaged, its parts do not fit together, or its header
            lacks the identity.
    """
    if run is None or everywhere:
        run = Run.load(path, headline=not everywhere)
    else:
        run = run.headline(path)
    subjects = list(dict.fromkeys(row.subject for row in run.rows))
    if not subjects:
        raise ResultError(f"{files_of(path)[0]}: has no row for the whole source")
    check_run(run, path)
    records = read_records(path, RECORDS)
    return tuple(
        SubjectRun(
            path=str(path),
            subject=subject,
            header=run.header,
            identity=_identity(path, run, subjects, number),
            rows=_rows_of(path, run, subject),
            ids=records.get(subject, {}).pop("ids", None),
            records=records.get(subject, {}),
            bound=run.files is not None,
        )
        for number, subject in enumerate(subjects)
    )


def _identity(path: Path, run: Run, subjects: Sequence[str], number: int) -> Mapping[str, Any]:
    """Return the identity of a subject; the header must hold that of the images, too."""
    for keys in (("source", "fingerprint"), ("replicate_scheme",)):
        if not isinstance(nested_get(run.header, "identity", *keys), str):
            raise ResultError(f"{path}: its header lacks identity.{'.'.join(keys)}; measure again")
    listed = nested_get(run.header, "subjects")
    names = [nested_get(each, "name") for each in listed] if isinstance(listed, list) else subjects
    index = names.index(subjects[number]) if subjects[number] in names else number
    found = nested_get(run.header, "identity", "subjects", str(index))
    if not isinstance(found, Mapping):
        raise ResultError(f"{path}: its header lacks identity.subjects.{index}; measure again")
    return found


def _rows_of(path: Path, run: Run, subject: str) -> dict[Key, Row]:
    rows: dict[Key, Row] = {}
    for row in run.rows:
        if row.subject == subject:
            key = key_of(row)
            if key in rows:
                raise ResultError(
                    f"{path}: two rows of {row.study}.{row.metric} with the same `at`"
                )
            rows[key] = row
    return rows


def pair_subjects(
    baseline: Sequence[SubjectRun], candidate: Sequence[SubjectRun]
) -> list[tuple[SubjectRun, SubjectRun]]:
    """Return which subject is compared with which: one with one, several by their names.

    A subject without a partner is paired with itself as if nothing had been measured.

    Raises:
        ResultError: there are several, and no name is on both sides.
    """
    if len(baseline) == len(candidate) == 1:
        return [(baseline[0], candidate[0])]
    before = {each.subject: each for each in baseline}
    after = {each.subject: each for each in candidate}
    if not before.keys() & after.keys():
        raise ResultError(
            f"{baseline[0].path} and {candidate[0].path}: several subjects, and none has the same "
            "name in both; measure each into a run of its own"
        )
    return [
        (
            before[name] if name in before else after[name].without_rows(),
            after[name] if name in after else before[name].without_rows(),
        )
        for name in dict.fromkeys([*before, *after])
    ]


def find_mismatches(baseline: SubjectRun, candidate: SubjectRun) -> Iterator[Mismatch]:
    """Yield the fields that must agree and do not: images, transform, parameters, replicates."""
    sides = (baseline, candidate)
    for name in ("source", "replicate_scheme"):
        yield from _differing(name, *(nested_get(each.header, "identity", name) for each in sides))
    yield from _differing("transform", *(each.identity.get("transform") for each in sides))
    yield from _other_images(baseline, candidate)
    shared = set.intersection(*({study for study, _, _ in each.rows} for each in sides))
    for study in sorted(shared):
        given = (nested_get(each.header, "identity", "studies", study) for each in sides)
        for mismatch in _differing(f"studies.{study}", *given):
            yield replace(mismatch, study=study)


def find_other_differences(baseline: SubjectRun, candidate: SubjectRun) -> Iterator[Mismatch]:
    """Yield the fields that may differ between comparable runs: weights, config, device, code."""
    for name in ("weights_sha256", "config", "soft_mask", "dtype"):
        yield from _differing(name, baseline.identity.get(name), candidate.identity.get(name))
    for keys in (("device",), ("versions",), ("code", "commit")):
        sides = (nested_get(each.header, *keys) for each in (baseline, candidate))
        yield from _differing(".".join(keys), *sides)


def align(baseline: SubjectRun, candidate: SubjectRun) -> NDArray[np.intp] | None:
    """Return the index in the candidate of each id of the baseline; None if the ids differ."""
    if baseline.ids is None or candidate.ids is None or len(baseline.ids) != len(candidate.ids):
        return None
    if np.array_equal(baseline.ids, candidate.ids):
        return np.arange(len(baseline.ids), dtype=np.intp)
    first, second = np.argsort(baseline.ids), np.argsort(candidate.ids)
    if not np.array_equal(baseline.ids[first], candidate.ids[second]):
        return None
    return second[np.argsort(first)]


def _other_images(baseline: SubjectRun, candidate: SubjectRun) -> Iterator[Mismatch]:
    """Yield a mismatch if other images were read: those unreadable in one run differ."""
    if baseline.ids is None or candidate.ids is None:
        return
    order = align(baseline, candidate)
    if order is None:
        counts = [f"{len(ids):,} ids" for ids in (baseline.ids, candidate.ids)]
        yield Mismatch(field="per_image.ids", baseline=counts[0], candidate=counts[1])
    elif "seen" in baseline.records and "seen" in candidate.records:
        seen = baseline.records["seen"], candidate.records["seen"][order]
        if not np.array_equal(*seen):
            counts = [f"{int(np.count_nonzero(each)):,} images" for each in seen]
            yield Mismatch(field="readable images", baseline=counts[0], candidate=counts[1])


def _differing(name: str, baseline: object, candidate: object) -> Iterator[Mismatch]:
    """Yield each leaf that differs."""
    before, after = dict(nested_items(baseline, name)), dict(nested_items(candidate, name))
    for leaf in dict.fromkeys([*before, *after]):
        values = [side.get(leaf, "not given") for side in (before, after)]
        if values[0] != values[1]:
            yield Mismatch(field=leaf, baseline=_short(values[0]), candidate=_short(values[1]))


def nested_items(tree: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield (dotted name, value) of everything in nested mappings."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from nested_items(value, f"{name}.{key}".removeprefix("."))
    else:
        yield name, tree


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 2 * SHOWN else text[:SHOWN] + "\N{HORIZONTAL ELLIPSIS}"
