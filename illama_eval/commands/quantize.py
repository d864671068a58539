"""`illama-eval quantize`: one scheme, a sweep, a sensitivity map, or a mixed scheme."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from illama.arithmetic import DTYPES
from illama.checkpoint.quantized_weight import WHOLE_BYTE
from illama.files import replacing
from illama.sources import open_source
from illama.sources.source import Source
from illama_eval.commands.directories import default_out, name_images
from illama_eval.commands.evaluate import is_finished, run_and_report
from illama_eval.commands.idle import refuse_idle
from illama_eval.commands.options import SharedOptions
from illama_eval.commands.resolve import Request, resolve
from illama_eval.quantize import sensitivity
from illama_eval.quantize.calibration import CalibrationSet, calibrate_on, prepare_images
from illama_eval.quantize.layers import Quantizable
from illama_eval.quantize.mixed import LADDER, allowed_bytes, mix, mixed_json, read_mixed
from illama_eval.quantize.ptq import NO_FILE, Quantized, as_subject, quantize, variant_name
from illama_eval.quantize.schemes import SCHEMES, QuantizationConfig, make_plan, sweep_configs
from illama_eval.quantize.sensitivity import effect_rows, find_effects
from illama_eval.render.terminal.quantization import show_quantization
from illama_eval.render.terminal.sensitivity import show_sensitivity
from illama_eval.render.terminal.status import announced
from illama_eval.results import ResultError
from illama_eval.run import directory
from illama_eval.run.job import PrecomputedStudy
from illama_eval.speed import SECONDS, Latency, measure_latency
from illama_eval.studies.agreement import Agreement
from illama_eval.studies.feature_agreement import FeatureAgreement
from illama_eval.study import Study, StudyResult
from illama_eval.subjects.checkpoint import ModelSubject
from illama_eval.subjects.subject import SubjectError, digest_of

MEASURED: tuple[str, ...] = ("accuracy", "calibration", "shape_bias", "rank", "collapse")
"""Measured before and after, as far as the images allow."""
SWEPT: tuple[str, ...] = ("accuracy", "calibration")
"""The same of every scheme of a sweep."""
NAMED = 3
"""Layers left in floating point that a note names."""
SHOWN_LAYERS = 10
"""Layers of a sensitivity map that are printed without --all."""
_SETTINGS = ("group_size", "asymmetric", "smooth", "rounding", "clipping", "exclude")
"""Options that are fields of a QuantizationConfig."""


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """Options of the command, beside the shared ones."""

    config: QuantizationConfig
    train_data: str | None = None
    """Where the calibration images are from; None: the train split of the measured source."""
    train_limit: int = 128
    """Number of calibration images."""
    latency: Latency | None = None
    """None: as much of both modes as fits about 20 s."""
    sensitivity: bool = False
    sweep: bool = False
    budget: float | None = None
    """Of a mixed scheme: share of the full-precision file; None: no mixed scheme."""

    @property
    def name(self) -> str:
        """The command as part of a directory's name."""
        if self.sweep:
            return "sweep"
        kind = "sensitivity" if self.sensitivity else "quantize"
        if self.budget is not None:
            return f"{kind}-mixed{self.budget:g}"
        return f"{kind}-{variant_name(asdict(self.config))}"

    def __post_init__(self) -> None:
        if (self.sensitivity or self.budget is not None) and self.config.smooth is not None:
            raise ResultError("--smooth changes several layers at once; leave it out here")


IDLE: Mapping[str, frozenset[str]] = {
    "sweep": frozenset(("scheme", "asymmetric", "smooth", "rounding", "latency", "budget")),
    "mixed": frozenset(("scheme",)),
    "sensitivity": frozenset(("latency", "budget")),
    "": frozenset(("budget",)),
}
"""Modes of the command, and the options that would change nothing in them."""


def make_options(scheme: str, modes: Sequence[str], given: Mapping[str, Any]) -> QuantizeOptions:
    """Return the options of a scheme, or a file of schemes by layer, and a mode: a key of IDLE.

    `given` has the command's options by name, None where they were not given.

    Raises:
        UsageError: an option was given that would change nothing.
        SubjectError: there are several modes, or the file cannot be read.
    """
    if len(modes) > 1:
        raise SubjectError("--sensitivity, --sweep and --mixed are three commands; choose one")
    mode = modes[0] if modes else ""
    chosen = {name: value for name, value in given.items() if value is not None}
    where = f"--{mode}" if mode else "a command without --mixed"
    refuse_idle(_flags(chosen), IDLE[mode], where)
    settings = {name: chosen[name] for name in _SETTINGS if name in chosen}
    config = make_config(scheme, **settings)
    if not mode:
        refuse_idle(_flags(chosen), set(_idle_by_scheme(config)), f"--scheme {scheme}")
    return QuantizeOptions(
        config=config,
        train_data=chosen.get("train_data"),
        train_limit=chosen.get("train_limit", 128),
        latency=chosen.get("latency"),
        sensitivity=mode == "sensitivity",
        sweep=mode == "sweep",
        budget=chosen.get("budget", 0.5) if mode == "mixed" else None,
    )


def _idle_by_scheme(config: QuantizationConfig) -> Iterator[str]:
    """Yield the options that a scheme has no use for."""
    names = config.layers.values() or [config.scheme]
    known = [SCHEMES[name] for name in names if name in SCHEMES]
    if known and not any(scheme.activation == "int8-static" for scheme in known):
        yield "clipping"
    if known and all(scheme.bits == WHOLE_BYTE for scheme in known):
        yield "group_size"


def make_config(scheme: str, **settings: Any) -> QuantizationConfig:
    """Return the config of a scheme's name, or of a file of schemes by layer.

    Raises:
        SubjectError: the file cannot be read.
        UsageError: a setting is given that the file has already.
    """
    if scheme in SCHEMES or not Path(scheme).suffix:
        return QuantizationConfig(scheme=scheme, **settings)
    layers, stored = read_mixed(Path(scheme))
    refuse_idle(_flags(settings), stored, f"{scheme}, which has its own")
    return QuantizationConfig(scheme=Path(scheme).stem, layers=layers, **settings, **stored)


def _flags(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the options as they are written; `--latency none` changes nothing anywhere."""
    names = [name for name, value in given.items() if (name, value) != ("latency", "none")]
    flags = {name: f"--{name.replace('_', '-')}" for name in names}
    return flags | {name: "--bits or --scheme" for name in flags if name == "scheme"}


def run_quantize(shared: SharedOptions, options: QuantizeOptions) -> int:
    """Quantize one model, measure it against itself, and return the exit code.

    Raises:
        ValueError: something given is missing or refused; one line says what and where.
    """
    if shared.dtype == "fp16":
        raise SubjectError("--dtype fp16: quantized models run in fp32 or bf16")
    given, names = shared, SWEPT if options.sweep else MEASURED
    if options.sensitivity:
        refuse_idle(shared.given, {"dtype", "compiled"}, "--sensitivity")
        names, most = (), sensitivity.IMAGES
        shared = replace(shared, limit=most if shared.limit is None else min(shared.limit, most))
    plain = replace(shared, dtype="fp32", compiled=False)
    request = resolve(plain, "quantize", {name: {} for name in names})
    base = _only_subject(request)
    images_name = name_images(request.source, given)
    out = shared.out or default_out([base.name], [digest_of(base)], options.name, images_name)
    request = replace(request, out=out)
    make_plan(base, options.config)  # refuses what cannot be done, at once
    if options.sensitivity:
        return _map_sensitivity(shared, options, request, base)
    if options.sweep:
        return _measure(shared, options, request, base, sweep_configs(base, options.config))
    if options.budget is not None:
        return _measure_mixed(shared, options, request, base)
    return _measure(shared, options, request, base, [options.config])


def _only_subject(request: Request) -> Quantizable:
    """Return the one model, in full precision.

    Raises:
        SubjectError: there are several.
    """
    first, *others = request.subjects
    if others:
        raise SubjectError("quantize takes one model; call it once for each")
    assert isinstance(first, Quantizable)
    return first


def open_calibration(
    shared: SharedOptions,
    options: QuantizeOptions,
    base: Quantizable,
    reported: Source,
    images: int,
) -> CalibrationSet:
    """Return calibration images of the training split, or of `--train-data`.

    Raises:
        SubjectError: they are too few, or among the reported ones.
        SourceError: they cannot be read.
    """
    spec = options.train_data or shared.choose_data("demo") or "photos"
    with _announced(f"preparing {images} images to calibrate on"):
        source = open_source(spec, split="train")
        return calibrate_on(source, reported, base, images, shared.seed)


def _measure(
    shared: SharedOptions,
    options: QuantizeOptions,
    request: Request,
    base: Quantizable,
    configs: Sequence[QuantizationConfig],
    extra: Mapping[str, str] | None = None,
) -> int:
    """Quantize by each config, and measure all results beside the exact model in one pass."""
    calibration = None
    if any(config.needs_images for config in configs):
        images = options.train_limit
        calibration = open_calibration(shared, options, base, request.source, images)
    request = _note_unread(shared, request, calibration)
    with _announced(f"quantizing {base.name}"):
        made = [
            quantize(base, config, calibration if config.needs_images else None)
            for config in configs
        ]
    exact_first = [base, *(as_subject(each, base) for each in made)]
    subjects = [_cast(subject, shared) for subject in exact_first]
    agreement: Study = Agreement() if base.classes else FeatureAgreement()
    studies = (*request.studies, agreement)
    request = replace(request, subjects=tuple(subjects), studies=studies)
    request = _noting(request, *_limits(base, made, options))
    files = dict(extra or {})
    complete = partial(_complete, options=options, subjects=subjects, made=made, files=files)
    show = partial(show_quantization, request.out, everything=shared.everything)
    return run_and_report(shared, request, complete, show)


def _note_unread(
    shared: SharedOptions, request: Request, calibration: CalibrationSet | None
) -> Request:
    """Return the request with a note on calibration images that were given and are not needed."""
    given = [flag for name, flag in shared.given.items() if name in {"train_data", "train_limit"}]
    if calibration is not None or not given:
        return request
    return _noting(
        request, f"{' and '.join(given)}: not used, the scheme needs no calibration images"
    )


def _noting(request: Request, *notes: str) -> Request:
    """Return the request with more notes."""
    return replace(request, note="\n".join(filter(None, (request.note, *notes))))


def _limits(
    base: Quantizable, made: Sequence[Quantized], options: QuantizeOptions
) -> Iterator[str]:
    """Yield what quantization does not reach in a network that is no model of illama."""
    if isinstance(base, ModelSubject):
        return
    first = made[0].describe()
    number, left = len(first["quantized"]), list(first["left"])
    named, others = left[:NAMED], len(left[NAMED:])
    named += [f"{others} more layers"] * (others > 0)
    yield (
        f"{base.name}: {number} linear {'layer is' if number == 1 else 'layers are'} quantized, "
        f"{first['share']:.1%} of the weights; what stays in floating point: "
        f"{', '.join([*named, 'norms and positions'])}"
    )
    yield f"{base.name}: no quantized file is written, {NO_FILE}; its size is counted"
    if options.sweep:
        yield f"{base.name}: --smooth is left out, it is for illama's own blocks"


def _cast(subject: Quantizable, shared: SharedOptions) -> Quantizable:
    """Return the subject in the precision of the options, compiled if they say so."""
    subject.model.to(DTYPES[shared.dtype])
    if shared.compiled and isinstance(subject, ModelSubject):
        subject.model.compile_paths()
    elif shared.compiled:
        subject.model.compile()
    changed: dict[str, Any] = {"dtype": shared.dtype}
    return replace(subject, **changed)


def _complete(
    out: Path,
    *,
    options: QuantizeOptions,
    subjects: Sequence[Quantizable],
    made: Sequence[Quantized],
    files: Mapping[str, str],
) -> None:
    """Add the quantized file, other files, and the latencies to a finished run directory."""
    if len(made) == 1 and made[0].has_file:
        with replacing(out / "model.safetensors") as stream:
            stream.write(made[0].file)
    for name, text in files.items():
        with replacing(out / name) as stream:
            stream.write(text.encode("utf-8"))
    if not directory.has_timing(out, "speed"):
        simulated = [False, *(each.simulated for each in made)]
        latency = "none" if options.sweep else options.latency
        idle = latency == "none" or all(simulated[1:])
        with nullcontext() if idle else _announced(f"timing, about {SECONDS:g} s"):
            directory.add_timing(out, measure_latency(subjects, simulated, latency))


def _announced(doing: str) -> AbstractContextManager[None]:
    """Show what is done while it lasts."""
    return announced(Console(stderr=True, highlight=False), doing)


def _map_sensitivity(
    shared: SharedOptions, options: QuantizeOptions, request: Request, base: Quantizable
) -> int:
    """Measure the effect of quantizing each layer alone, as the only study of the run."""
    config, source = options.config, request.source
    calibration = None
    if config.needs_images:
        images = options.train_limit
        calibration = open_calibration(shared, options, base, source, images)
    request = _note_unread(shared, request, calibration)
    study = PrecomputedStudy(
        name=sensitivity.STUDY,
        metrics=sensitivity.METRICS,
        parameters={
            **asdict(config),
            "exclude": list(config.exclude),
            "calibration": calibration and dict(calibration.record),
        },
    )
    request = replace(request, precomputed=study)
    if not is_finished(shared, request):
        with _announced(f"quantizing {base.name} one layer at a time"):
            effects = find_effects(base, prepare_images(base, source), config, calibration)
        result = StudyResult(rows=tuple(effect_rows(effects, source.ids, source.groups)))
        request = replace(request, precomputed=replace(study, results={base.name: result}))
    shown = None if shared.everything else SHOWN_LAYERS
    return run_and_report(shared, request, show_run=partial(show_sensitivity, most=shown))


def _measure_mixed(
    shared: SharedOptions, options: QuantizeOptions, request: Request, base: Quantizable
) -> int:
    """Find a mixed scheme within the budget, on calibration images, and measure it."""
    assert options.budget is not None
    if not 0 < options.budget < 1:
        raise SubjectError(f"--budget {options.budget}: a share between 0 and 1 is needed")
    count = max(options.train_limit, sensitivity.IMAGES)
    calibration = open_calibration(shared, options, base, request.source, count)
    images = calibration.images[: sensitivity.IMAGES]
    allowed = allowed_bytes(base, options.config, options.budget)
    with _announced(f"quantizing {base.name} one layer at a time"):
        effects = [
            effect
            for scheme in LADDER
            for effect in find_effects(
                base, images, replace(options.config, scheme=scheme), calibration
            )
        ]
    layers, expected = mix(base.model, effects, options.config, allowed)
    about = {
        "budget": options.budget,
        "expected_kl": expected,
        "base": base.provenance["weights_sha256"],
        "calibration": dict(calibration.record),
    }
    text = mixed_json(layers, options.config, about)
    config = replace(options.config, scheme=f"mixed-{options.budget:g}", layers=layers)
    return _measure(shared, options, request, base, [config], {"mixed.json": text})
