"""`illama-eval transfer --probe finetune`: train all weights, then measure the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from illama.launch import launched
from illama.training.folder import BEST
from illama.training.recipe import Recipe
from illama_eval.commands.evaluate import run_and_report
from illama_eval.commands.options import SharedOptions
from illama_eval.commands.resolve import Request
from illama_eval.commands.transfer import (
    MEASURED,
    TransferOptions,
    describe_train,
    name_directory,
    open_task,
)
from illama_eval.run.job import PrecomputedStudy
from illama_eval.studies import STUDIES
from illama_eval.study import StudyResult
from illama_eval.subjects.checkpoint import (
    ModelSubject,
    as_checkpoint,
    in_full_precision,
    open_checkpoint,
)
from illama_eval.subjects.subject import SubjectError
from illama_eval.transfer.finetune import (
    Preset,
    best_epoch,
    count_broken,
    identity_of_training,
    make_recipe,
    result_of_training,
    train,
)
from illama_eval.transfer.probe import METRICS, STUDY
from illama_eval.transfer.splits import TransferSplit

_TRAINED = "finetune trains checkpoints of illama, ViT and DeiT"


def run_finetune(
    shared: SharedOptions, options: TransferOptions, preset: Preset, changes: Sequence[str]
) -> int:
    """Fine-tune the checkpoints on other images and measure them; return the exit code, 0 or 4.

    Raises:
        ValueError: something given is missing or refused; one line says what and where.
    """
    if launched().size > 1:
        raise SubjectError("--probe finetune runs in one process; start it without torchrun")
    exact = replace(shared, dtype="fp32")  # training starts from the weights as they are
    bases, split, note = open_task(exact, options, leave_one_out=False)
    models = [
        in_full_precision(as_checkpoint(base, _TRAINED), "integers cannot be trained")
        for base in bases
    ]
    out = shared.out or name_directory(shared, options, bases, split, "finetune")
    folders = {base.name: out / f"{base.name}-finetune" for base in models}
    recipes = {
        base.name: make_recipe(base, folders[base.name], split, preset, changes, shared.seed)
        for base in models
    }
    subjects: list[ModelSubject] = []
    results: dict[str, StudyResult] = {}
    for base in models:
        folder = folders[base.name]
        log = train(
            recipes[base.name],
            split,
            folder,
            base,
            workers=shared.workers or 0,
            compiled=shared.compiled,
            overwrite=shared.overwrite,
        )
        made = _open_trained(shared, base, folder, log)
        subjects += made
        result = result_of_training(split, log, count_broken(folder, split.train))
        results.update({subject.name: result for subject in made})
    parameters = _parameters(models, recipes, split, preset)
    request = Request(
        subjects=tuple(subjects),
        source=split.test,
        studies=tuple(STUDIES[name]() for name in MEASURED),
        out=out,
        note="\n".join(filter(None, (note, split.note))),
        precomputed=PrecomputedStudy(
            name=STUDY, metrics=METRICS, parameters=parameters, results=results
        ),
    )
    return run_and_report(shared, request)


def _open_trained(
    shared: SharedOptions, base: ModelSubject, folder: Path, log: Sequence[Mapping[str, Any]]
) -> list[ModelSubject]:
    """Return the model of the last epoch, and that of the best one if it was better."""
    files = {f"{base.name}+finetune": folder / f"{folder.name}.safetensors"}
    if log[best_epoch(log) - 1]["test_acc1_at_0"] > log[-1]["test_acc1_at_0"]:
        files[f"{base.name}+finetune-best"] = folder / BEST
    opened = [
        open_checkpoint(
            path,
            device=base.device,
            dtype=shared.dtype,
            preprocess=shared.preprocess,
            compiled=shared.compiled,
            name=name,
        )
        for name, path in files.items()
    ]
    return [_without_paths(subject) for subject in opened]


def _without_paths(subject: ModelSubject) -> ModelSubject:
    """Return the subject with the name instead of the path of the file it started from."""
    args = dict(subject.provenance["args"] or {})
    if args.get("start"):
        args["start"] = Path(args["start"]).name
    return replace(subject, provenance={**subject.provenance, "args": args})


def _parameters(
    bases: Sequence[ModelSubject],
    recipes: Mapping[str, Recipe],
    split: TransferSplit,
    preset: Preset,
) -> dict[str, Any]:
    """Return what decides the training, without paths of this machine."""
    trained = {base.name: identity_of_training(recipes[base.name], split, base) for base in bases}
    about = {"probe": "finetune", "preset": preset, "recipes": trained}
    return {**about, "train": describe_train(split.train)}
