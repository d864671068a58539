"""`illama_eval.evaluate`: what `illama-eval run` does, from Python and without a directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from illama.sources.source import Source
from illama_eval.commands.idle import OF_IMAGES, OF_OPENING, refuse_idle
from illama_eval.commands.options import ALL_STUDIES, SharedOptions
from illama_eval.commands.resolve import check_study_names, open_subjects, resolve
from illama_eval.results import Run
from illama_eval.run.evaluate import evaluate as run_evaluate
from illama_eval.run.job import Options
from illama_eval.study import Study
from illama_eval.subjects.subject import Subject, SubjectError

Given: TypeAlias = str | Path | Subject
Studies: TypeAlias = str | Sequence[str | Study] | Mapping[str, Mapping[str, Any]]


def evaluate(
    subject: Given | Sequence[Given],
    data: str | Path | Source | None = None,
    studies: Studies | None = None,
    out: Path | str | None = None,
    options: Options | None = None,
    **settings: Any,
) -> Run:
    """Measure models on images in one pass, and return the run.

    Args:
        subject: checkpoint files or open subjects, one or several; of several, each is measured on
            the same images.
        data: what `--data` takes, or an open source; without it the images that $ILLAMA_DATA
            names or, if it is not set, a first look on photographs.
        studies: a name or several, names with parameters such as `{"rank": {"threshold": 0.9}}`, or
            studies; without them all that the images allow.
        out: a directory to write; an interrupted run in it is continued. None: nothing is written.
        options: batch size, workers and the like.
        settings: further options of the command line, such as `limit=1000`, `device="cuda"`,
            `split="train"` or `soft_mask=0.5`; what is open already has its own.

    Raises:
        ValueError: something given is missing or refused; one line says what and where.
        Interrupted: a signal came; a partial was saved.
    """
    each: list[Given]
    if isinstance(subject, Sequence) and not isinstance(subject, str):
        each = list(subject)
    else:
        each = [subject]
    files = [Path(one) for one in each if isinstance(one, str | Path)]
    _check_settings(settings, each, data)
    named = None if data is None or isinstance(data, Source) else str(data)
    shared = SharedOptions(checkpoints=files or None, data=named, **settings)
    opened = iter(open_subjects(shared) if files else ())
    request = resolve(
        shared,
        "run" if studies is None else "evaluate",
        _parameters(ALL_STUDIES if studies is None else studies),
        opened=[
            *(next(opened) if isinstance(one, str | Path) else one for one in each),
            *opened,  # of the setting `models`
        ],
        source=data if isinstance(data, Source) else None,
        demo=None,
    )
    directory = None if out is None else Path(out)
    return run_evaluate(request.subjects, request.source, request.studies, directory, options)


def _check_settings(
    settings: Mapping[str, Any], subjects: Sequence[Given], data: str | Path | Source | None
) -> None:
    """Refuse settings that an open model or source would not be given.

    Raises:
        UsageError: there is one.
        SubjectError: there is no model.
    """
    if not subjects:
        raise SubjectError("no model is given; name a checkpoint, or give an open subject")
    given = {name: name for name in settings}
    if not all(isinstance(one, str | Path) for one in subjects):
        refuse_idle(given, OF_OPENING, "an open model, which has its own")
    if isinstance(data, Source):
        refuse_idle(given, OF_IMAGES, "an open source, which has its own")


def _parameters(studies: Studies) -> dict[str, Mapping[str, Any] | Study]:
    """Return the parameters of each study by its name, or the study itself.

    Raises:
        SubjectError: there is no study of that name, or none at all.
    """
    if not studies:
        raise SubjectError("no study is given; leave `studies` out for all that fit")
    if isinstance(studies, Mapping):
        found: dict[str, Mapping[str, Any] | Study] = dict(studies)
    else:
        found = {}
        for each in (studies,) if isinstance(studies, str) else studies:
            if isinstance(each, str):
                found[each] = {}
            else:
                found[each.name] = each
    check_study_names([name for name, given in found.items() if isinstance(given, Mapping)])
    return found
