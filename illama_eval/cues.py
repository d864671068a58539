"""What shape bias is told besides the pictures: the head's categories, and who else decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from illama.sources.source import Source
from illama_eval.cue_conflict import Decisions, choose_categories, number_decisions, read_observers
from illama_eval.studies.shape_bias import ShapeBias
from illama_eval.subjects.subject import Subject, SubjectError


@dataclass(frozen=True, kw_only=True)
class Cues:
    """The options of shape bias."""

    categories: Path | None = None
    """JSON of name: [indices of the head]; None: as the head is known to have them."""
    observers: tuple[Path, ...] = ()
    """Tables of decisions."""

    def read(self) -> Decisions | None:
        """Return the decisions of all observers, or None where there are none.

        Raises:
            SubjectError: a table is missing or damaged.
        """
        return read_observers(self.observers) if self.observers else None

    def fit(self, study: ShapeBias, source: Source, subjects: Sequence[Subject]) -> ShapeBias:
        """Return the study for the subjects' head and the source's cues, with the observers.

        Raises:
            SubjectError: the heads differ, or an observer decides on other categories.
            CueConflictError: the head's classes make up no known categories, or not those.
        """
        heads = sorted({subject.classes for subject in subjects})
        if len(heads) > 1:
            raise SubjectError(
                f"shape_bias: heads of {heads[0]} and {heads[1]} classes; measure them apart"
            )
        categories = choose_categories(
            source.categories or (), heads[0], table=self.categories, own=source.name == "demo"
        )
        decisions = self.read()
        names = [name for name, _ in categories]
        observers = () if decisions is None else number_decisions(decisions, names)
        return replace(study, categories=categories, observers=observers)
