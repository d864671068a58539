"""The commands that measure: resolve, evaluate, render, print, exit code."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from illama.distributed import World, is_main_process
from illama.interruption import Interrupted
from illama.launch import is_by_torchrun, own_cores
from illama.sources import open_source
from illama.sources.source import Source
from illama_eval.commands.directories import default_out, name_images
from illama_eval.commands.idle import (
    ALL_BUT_LIMIT,
    OF_IMAGES,
    OF_TRANSFORM,
    refuse_idle,
    refuse_split,
)
from illama_eval.commands.options import SharedOptions
from illama_eval.commands.progress import progress
from illama_eval.commands.resolve import (
    Request,
    ShapeBiasInputs,
    open_subjects,
    parse_batch_size,
    resolve,
)
from illama_eval.commands.settings import open_segmenters, refuse_idle_seed, remarks_on
from illama_eval.render import render_directory
from illama_eval.render.terminal.run import show
from illama_eval.render.terminal.speed import show_speed
from illama_eval.render.terminal.status import announced
from illama_eval.render.terminal.summary import show_summary
from illama_eval.render.terminal.tables import result_console
from illama_eval.results import Row, Run
from illama_eval.run import directory
from illama_eval.run.evaluate import evaluate
from illama_eval.run.finalize import REPEATED
from illama_eval.run.job import Job, Options
from illama_eval.run.samples import write_segments
from illama_eval.speed import SECONDS, measure_speed
from illama_eval.studies.agreement import Agreement
from illama_eval.studies.collapse import Collapse
from illama_eval.studies.segmentation import Segmentation
from illama_eval.studies.shape_bias import ShapeBias
from illama_eval.subjects.checkpoint import as_checkpoint, in_full_precision, with_random_weights
from illama_eval.subjects.predictions import open_observers
from illama_eval.subjects.segmenter import DEMO_SEGMENTER, check_masks
from illama_eval.subjects.subject import Subject, SubjectError, digest_of
from illama_eval.subjects.without_massive import without_massive_activations

INCOMPLETE = 4
"""Exit code of a run that finished, but with unreadable images or non-finite logits."""
_NOT_TIMED = OF_IMAGES | OF_TRANSFORM | {"limit", "seed", "samples", "everything", "resume"}
"""Options of other commands that mean nothing to `speed`."""


def measure(
    shared: SharedOptions,
    command: str,
    parameters: Mapping[str, Mapping[str, Any]],
    predictions: Path | None = None,
    cues: ShapeBiasInputs | None = None,
) -> int:
    """Run a measuring command and return its exit code, 0 or 4.

    `parameters` maps the names of the studies to their parameters; the command `run` leaves out
    studies that the source cannot feed.

    Raises:
        ValueError: something given is missing or refused; one line says what and where.
    """
    refuse_idle_seed(shared)
    return run_and_report(shared, resolve(shared, command, parameters, predictions, cues))


def measure_collapse(
    shared: SharedOptions,
    *,
    control: bool,
    without_massive: bool,
    background: Sequence[str] | None = None,
) -> int:
    """Measure collapse, with `control` beside the first model with random weights.

    With `without_massive` the first model is measured with its massive activations removed, too,
    and accuracy and agreement say what that changes. `background` names the classes of the masks
    that are background.

    Raises:
        ValueError: something given is missing or refused; one line says what and where.
    """
    if not control:
        refuse_idle_seed(shared)
    names = ["collapse", *["with-control"] * control, *["without-massive"] * without_massive]
    studies: dict[str, dict[str, Any]] = {"collapse": {}}
    if without_massive:
        studies["accuracy"] = {}
    request = resolve(shared, "-".join(names), studies)
    if background is not None:
        request = replace(request, source=request.source.with_background(background))
    subjects, more = list(request.subjects), list(request.studies)
    if control or without_massive:
        first = as_checkpoint(subjects[0], "only a checkpoint can be measured in another form")
    if without_massive:
        rule = Collapse()
        removed = without_massive_activations(first, rule.massive_above, rule.massive_size)
        subjects.insert(1, removed)
        more.append(Agreement())
    if control:
        subjects.append(with_random_weights(first, shared.seed))
    changed = replace(request, subjects=tuple(subjects), studies=tuple(more))
    return run_and_report(shared, changed)


def measure_shape_bias(shared: SharedOptions, cues: ShapeBiasInputs) -> int:
    """Measure shape bias, of the observers alone if only they are given; return the exit code.

    Raises:
        ValueError: something given is missing or refused; one line says what and where.
    """
    decisions = cues.read()
    if decisions is None or shared.checkpoints or shared.models or shared.data:
        return measure(shared, "shape-bias", {"shape_bias": {}}, cues=cues)
    idle = ALL_BUT_LIMIT | {"limit", "seed", "categories"}
    refuse_idle(shared.given, idle, "--observers alone, without a model")
    subjects, source = open_observers(decisions)
    own = tuple((name, (index,)) for index, name in enumerate(decisions.categories))
    study = ShapeBias(categories=own)
    names = [subject.name for subject in subjects]
    out = shared.out or default_out(names, [decisions.sha256], "shape-bias")
    request = Request(subjects=subjects, source=source, studies=(study,), out=out)
    return run_and_report(shared, request)


def measure_segmentation(shared: SharedOptions) -> int:
    """Measure segmenters on images with masks, and return the exit code.

    Raises:
        ValueError: something given is missing or refused; one line says what and where.
    """
    refuse_idle_seed(shared)
    subjects = open_segmenters(shared, DEMO_SEGMENTER)
    spec = shared.choose_data("demo-shapes")
    if spec is None:
        raise SubjectError(
            "no --data: segmentation needs images with masks; --data takes an ADE20K folder, or "
            "demo-shapes"
        )
    source = open_source(spec, split=shared.split)
    refuse_split(shared.split, source.name, source.split)
    if shared.limit is not None:
        source = source.limit(shared.limit, shared.seed)
    check_masks(source, subjects)
    study = Segmentation(names=source.mask_classes or ())
    names, digests = [each.name for each in subjects], [digest_of(each) for each in subjects]
    request = Request(
        subjects=tuple(subjects),
        source=source,
        studies=(study,),
        out=shared.out or default_out(names, digests, "segment", name_images(source, shared)),
        note="\n".join(remarks_on(subjects)),
    )
    sampled = partial(write_segments, subjects[0], source) if shared.samples else None
    return run_and_report(shared, request, sampled)


def run_and_report(
    shared: SharedOptions,
    request: Request,
    complete: Callable[[Path], object] | None = None,
    show_run: Callable[[Run, Console], None] | None = None,
) -> int:
    """Evaluate the request, render and print the run, and return the exit code, 0 or 4.

    `complete` adds its own files to the run directory before it is rendered; `show_run` prints the
    run in a way of its own, and knows whether all is asked for.
    """
    log = Console(stderr=True, highlight=False)
    if request.note and is_main_process():
        log.print(request.note, markup=False)
    try:
        chosen = replace(
            options_of(shared, request.source, request.subjects[0]),
            variable=request.variable,
            on_stored=partial(_say_stored, log, request.out),
        )
        with progress(log, chosen) as options:
            run = evaluate(
                request.subjects,
                request.source,
                request.studies,
                request.out,
                options,
                request.precomputed,
            )
    except Interrupted:
        print_resume_command(log)
        raise
    if not is_main_process():
        return _exit_code(run)
    if complete is not None:
        complete(request.out)
    with announced(log, "drawing figures and page"):
        render_directory(request.out)
    chosen_show = show_run or (show if shared.everything else show_summary)
    if shared.as_json:
        sys.stdout.write(run.to_json())
    else:
        chosen_show(run, result_console())
    hint = "" if shared.everything else "; every number: --all"
    log.print(f"written to {request.out / 'report.html'}{hint}", markup=False, soft_wrap=True)
    return _warn(run, log)


def _say_stored(log: Console, out: Path) -> None:
    """Say that nothing is measured."""
    log.print(
        f"measured before, shown from {out}; --overwrite measures again",
        markup=False,
        soft_wrap=True,
    )


def is_finished(shared: SharedOptions, request: Request) -> bool:
    """Return whether the request's directory has its finished run, which is to be shown again.

    Raises:
        ResultError: the directory has another run.
    """
    if shared.overwrite or not shared.resume:
        return False
    job = Job(
        request.subjects, request.source, request.studies, Options(), World(), request.precomputed
    )
    return directory.finished_run(request.out, job.identity, job.images) is not None


def print_resume_command(log: Console) -> None:
    """Print the command that resumes an interrupted run."""
    words = [word for word in sys.argv[1:] if word not in {"--overwrite", "--no-resume"}]
    log.print(f"resume with: illama-eval {shlex.join(words)}", markup=False, soft_wrap=True)


def compare_speed(shared: SharedOptions) -> int:
    """Time each checkpoint against its bidirectional twin, print the table, return 0.

    Raises:
        ValueError: something given is missing or refused; one line says what and where.
    """
    log = Console(stderr=True, highlight=False)
    refuse_idle(shared.given, _NOT_TIMED, "speed, which times random images")
    subjects = open_subjects(replace(shared, compiled=False))
    if shared.out and len(subjects) > 1:
        raise SubjectError("--out takes one checkpoint; without it each gets a directory")
    for each in subjects:
        subject = as_checkpoint(each, "speed needs a model that has a bidirectional twin")
        in_full_precision(subject, "speed compares it with a twin of the same weights")
        out = shared.out or default_out([subject.name], [digest_of(subject)], "speed")
        with announced(log, f"timing {subject.name}, about {SECONDS:g} s"):
            run = measure_speed(
                subject,
                out,
                compiled=shared.compiled,
                overwrite=shared.overwrite,
                command=shared.command,
            )
        if shared.as_json:
            sys.stdout.write(run.to_json())
        else:
            show_speed(run, result_console())
        log.print(f"written to {out}", markup=False)
    return 0


def options_of(shared: SharedOptions, source: Source, subject: Subject) -> Options:
    """Return the run options; images are read ahead for a GPU only."""
    workers = shared.workers
    if workers is None:
        workers = 0 if source.in_memory or subject.device.type == "cpu" else own_cores()
    return Options(
        batch_size=parse_batch_size(shared.batch_size),
        workers=workers,
        cache=shared.cache,
        resume=shared.resume,
        overwrite=shared.overwrite,
        limit=shared.limit,
        seed=shared.seed,
        samples=shared.samples,
        save_every=shared.save_every,
        command=shared.command,
    )


def _warn(run: Run, log: Console) -> int:
    """Print what was wrong with the images or the logits; return the exit code."""
    unreadable = run.header["unreadable"]
    for image_id, reason in unreadable["first"][:5]:
        log.print(f"unreadable: {image_id}: {reason}", markup=False)
    if unreadable["count"]:
        log.print(f"{unreadable['count']} images were unreadable and left out", markup=False)
    for note in run.header["source"].get("notes", ()):
        if REPEATED in note:
            log.print(note, markup=False, soft_wrap=True)
    for row in _nonfinite(run):
        log.print(
            f"{row.subject}: non-finite logits on {row.value:.0f} of {row.images} images, "
            "counted as wrong",
            markup=False,
        )
    code = _exit_code(run)
    if code != _incomplete(run):
        log.print(f"under torchrun this ends with 0 instead of {INCOMPLETE}; run.json counts them")
    return code


def _exit_code(run: Run) -> int:
    """Return the exit code of a finished run, the same in every process.

    `torchrun` would make a failure of a code other than 0.
    """
    return 0 if is_by_torchrun() else _incomplete(run)


def _incomplete(run: Run) -> int:
    """Return the exit code of a finished run that no launcher changes."""
    return INCOMPLETE if run.header["unreadable"]["count"] or _nonfinite(run) else 0


def _nonfinite(run: Run) -> list[Row]:
    """Return the rows of models with non-finite logits."""
    return [row for row in run.rows if row.metric == "nonfinite" and row.value]
