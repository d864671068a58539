"""Carry `illama-eval quantize` out: one scheme, a sweep, a sensitivity map, or a mixed scheme."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from illama.files import replacing
from illama.sources import open_source
from illama.sources.source import Source
from illama_eval.bootstrap import REPLICATE_SCHEME
from illama_eval.commands.evaluate import run_and_report
from illama_eval.commands.options import SharedOptions
from illama_eval.commands.resolve import Request, default_out, resolve
from illama_eval.quantize.mixed import LADDER, allowed_bytes, mix, mixed_json, read_mixed
from illama_eval.quantize.ptq import (
    LABEL,
    CalibrationSet,
    Quantized,
    as_subject,
    calibrate_on,
    quantize,
)
from illama_eval.quantize.schemes import (
    SCHEMES,
    QuantizationConfig,
    check_choices,
    make_plan,
    sweep_choices,
)
from illama_eval.quantize.sensitivity import IMAGES, effect_rows, find_effects, sensitivity_header
from illama_eval.render import render_directory
from illama_eval.render.terminal.quantization import show_quantization
from illama_eval.results import ResultError, Run
from illama_eval.run import directory
from illama_eval.speed import Latency, measure_latency
from illama_eval.studies.agreement import Agreement
from illama_eval.study import Study
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.subject import DTYPES, SubjectError, digest_of

STUDIES: Mapping[str, Mapping[str, Any]] = {
    "accuracy": {},
    "calibration": {},
    "shape_bias": {},
    "rank": {},
    "collapse": {},
}
"""Measured before and after, as far as the images allow."""
SWEPT_STUDIES = ("accuracy", "calibration")


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """What the options of the command say."""

    choices: QuantizationConfig
    calibration_data: str | None = None
    calibration_images: int = 128
    latency: Latency = "both"
    sensitivity: bool = False
    sweep: bool = False
    budget: float | None = None
    """Of a mixed scheme: share of the full-precision file; None: no mixed scheme."""


def choose(scheme: str, **settings: Any) -> QuantizationConfig:
    """Return the choices that a scheme's name or a file of schemes by layer means.

    Raises:
        SubjectError: the file is none.
    """
    if scheme in SCHEMES or not Path(scheme).suffix:
        return QuantizationConfig(scheme=scheme, **settings)
    layers, stored = read_mixed(Path(scheme))
    return QuantizationConfig(scheme=Path(scheme).stem, layers=layers, **{**settings, **stored})


def run_quantize(shared: SharedOptions, asked: QuantizeOptions) -> int:
    """Quantize one checkpoint, measure it against itself, and return the exit code.

    Raises:
        ValueError: something given is missing or refused; one line says what and where.
    """
    if shared.dtype == "fp16":
        raise SubjectError("--dtype fp16: quantized models run in fp32 or bf16")
    command = "sensitivity" if asked.sensitivity else "sweep" if asked.sweep else "quantize"
    plain = replace(shared, dtype="fp32", compiled=False)
    studies = {name: dict(STUDIES[name]) for name in (SWEPT_STUDIES if asked.sweep else STUDIES)}
    request = resolve(plain, "quantize", studies)
    base = _only_subject(request)
    out = shared.out or default_out([base.name], [digest_of(base)], command)
    request = replace(request, out=out)
    check_choices(asked.choices, base.device)
    plan = make_plan(base.model, asked.choices, base.device)
    del plan  # made again with the weights: here it refuses what cannot be, before any work
    if asked.sensitivity:
        return _map_sensitivity(shared, asked, request, base)
    if asked.sweep:
        return _measure(shared, asked, request, base, sweep_choices(asked.choices, base.device))
    if asked.budget is not None:
        return _measure_mixed(shared, asked, request, base)
    return _measure(shared, asked, request, base, [asked.choices])


def _only_subject(request: Request) -> ModelSubject:
    """Return the one checkpoint, in full precision.

    Raises:
        SubjectError: there are several, or it is a model that we cannot take apart.
    """
    first, *others = request.subjects
    if others or not isinstance(first, ModelSubject):
        raise SubjectError("quantize takes one checkpoint; call it once for each")
    return first


def open_calibration(
    shared: SharedOptions, asked: QuantizeOptions, base: ModelSubject, reported: Source, images: int
) -> CalibrationSet:
    """Return calibration images of the training split, or of `--calibration-data`.

    Raises:
        SubjectError: they are too few, or among the reported ones.
        SourceError: they cannot be read.
    """
    spec = asked.calibration_data or shared.data
    spec = spec or (os.environ.get("ILLAMA_DATA") if shared.checkpoints else "demo") or "photos"
    source = open_source(spec, split="train")
    return calibrate_on(source, reported, base, images, shared.seed)


def _measure(
    shared: SharedOptions,
    asked: QuantizeOptions,
    request: Request,
    base: ModelSubject,
    every: Sequence[QuantizationConfig],
    extra: Mapping[str, str] | None = None,
) -> int:
    """Quantize by all choices, and measure all of them beside the exact model in one pass."""
    calibration = None
    if any(choices.needs_images for choices in every):
        images = asked.calibration_images
        calibration = open_calibration(shared, asked, base, request.source, images)
    made = [
        quantize(base, choices, calibration if choices.needs_images else None) for choices in every
    ]
    subjects = [_cast(subject, shared) for subject in _subjects(base, made)]
    studies: tuple[Study, ...] = (*request.studies, Agreement())
    request = replace(request, subjects=tuple(subjects), studies=studies)
    files = dict(extra or {})
    complete = partial(_complete, asked=asked, subjects=subjects, made=made, files=files)
    shown = partial(_show, request.out)
    return run_and_report(shared, request, complete, shown)


def _subjects(base: ModelSubject, made: Sequence[Quantized]) -> Iterator[ModelSubject]:
    yield base
    for each in made:
        yield as_subject(each, base)


def _cast(subject: ModelSubject, shared: SharedOptions) -> ModelSubject:
    """Return the subject in the precision asked for, compiled if asked for."""
    model = subject.model.to(DTYPES[shared.dtype])
    if shared.compiled:
        model.compile_paths()
    return replace(subject, model=model, dtype=shared.dtype)


def _complete(
    out: Path,
    *,
    asked: QuantizeOptions,
    subjects: Sequence[ModelSubject],
    made: Sequence[Quantized],
    files: Mapping[str, str],
) -> None:
    """Add the quantized file, other files, and the latencies to a finished run directory."""
    if len(made) == 1:
        with replacing(out / "model.safetensors") as stream:
            stream.write(made[0].file)
    for name, text in files.items():
        with replacing(out / name) as stream:
            stream.write(text.encode("utf-8"))
    if not directory.has_timing(out, "speed"):
        simulated = [False, *(each.simulated for each in made)]
        latency = "none" if asked.sweep else asked.latency
        directory.add_timing(out, measure_latency(subjects, simulated, latency))


def _show(out: Path, run: Run, console: Console) -> None:
    show_quantization(out, run, console)


def _map_sensitivity(
    shared: SharedOptions, asked: QuantizeOptions, request: Request, base: ModelSubject
) -> int:
    """Measure the effect of each layer alone on 64 images, and write the run."""
    source = request.source.limit(IMAGES, shared.seed)
    choices = asked.choices
    identity = {
        "sensitivity": {**asdict(choices), "exclude": list(choices.exclude)},
        "weights_sha256": base.provenance["weights_sha256"],
        "source": {"fingerprint": source.fingerprint},
        "replicate_scheme": REPLICATE_SCHEME,
    }
    with directory.owned(request.out):
        if shared.overwrite:
            directory.clear(request.out)
        run = directory.finished_run(request.out, identity) if shared.resume else None
        if run is None:
            calibration = None
            if choices.needs_images:
                images = asked.calibration_images
                calibration = open_calibration(shared, asked, base, source, images)
            prepared = torch.stack([base.transform(source.read(i)) for i in range(len(source))])
            effects = find_effects(base, prepared.to(base.device), choices, calibration)
            rows = tuple(effect_rows(base, source, effects))
            run = Run(header=sensitivity_header(base, source, identity), rows=rows)
            directory.write_run(request.out, run, Run(header={}, rows=()), {})
    render_directory(request.out)
    console = Console(highlight=False)
    if shared.as_json:
        sys.stdout.write(run.to_json())
    else:
        console.print(LABEL)
        for each in _most_sensitive(run):
            console.print(each, markup=False)
    Console(stderr=True, highlight=False).print(f"written to {request.out}", markup=False)
    return 0


def _most_sensitive(run: Run, shown: int = 10) -> Iterator[str]:
    """Yield the places of largest divergence, in words."""
    rows = [row for row in run.rows if row.metric == "kl" and row.value is not None]
    for each in sorted(rows, key=lambda row: -(row.value or 0.0))[:shown]:
        place = ", ".join(f"{key} {value}" for key, value in each.at.items())
        yield f"  KL {each.value:.3g} nats ({each.low:.3g} to {each.high:.3g}): {place}"


def _measure_mixed(
    shared: SharedOptions, asked: QuantizeOptions, request: Request, base: ModelSubject
) -> int:
    """Find a mixed scheme within the budget, on calibration images, and measure it."""
    assert asked.budget is not None
    if not 0 < asked.budget < 1:
        raise SubjectError(f"--budget {asked.budget}: a share between 0 and 1 is needed")
    count = max(asked.calibration_images, IMAGES)
    calibration = open_calibration(shared, asked, base, request.source, count)
    effects = [
        effect
        for scheme in LADDER
        for effect in find_effects(
            base, calibration.images[:IMAGES], replace(asked.choices, scheme=scheme), calibration
        )
    ]
    allowed = allowed_bytes(base, asked.choices, asked.budget)
    layers, expected = mix(base.model, effects, asked.choices, allowed)
    about = {
        "budget": asked.budget,
        "expected_kl": expected,
        "base": base.provenance["weights_sha256"],
        "calibration": dict(calibration.record),
    }
    text = mixed_json(layers, asked.choices, about)
    choices = replace(asked.choices, scheme=f"mixed-{asked.budget:g}", layers=layers)
    return _measure(shared, asked, request, base, [choices], {"mixed.json": text})


def check_asked(asked: QuantizeOptions) -> None:
    """Refuse options that exclude each other.

    Raises:
        SubjectError: two of the modes are asked for, or smoothing where layers are told apart.
    """
    modes = [asked.sensitivity, asked.sweep, asked.budget is not None]
    if sum(modes) > 1:
        raise SubjectError("--sensitivity, --sweep and --mixed are three commands; choose one")
    if (asked.sensitivity or asked.budget is not None) and asked.choices.smooth is not None:
        raise ResultError("--smooth changes several layers at once; leave it out here")
