"""Options that all measuring commands share; imported without torch, so --help is fast."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from illama.config import Dtype, Masking
from illama.preprocessing import Preprocess
from illama.source_names import DATA_VARIABLE
from illama_eval.commands.idle import given_flags
from illama_eval.commands.inputs import check_inputs
from illama_eval.commands.repeat import repeat_words

Split = Literal["test", "train", "cue-conflict"]
"""Part of a source."""

MODEL, IMAGES, OUTPUT, MACHINE = "Model", "Images", "Output", "Machine"
"""Panels of the help pages."""


REPORTS = Path("reports")
"""Where run directories are written, and looked for, by default."""
ALL_STUDIES = (
    "accuracy",
    "calibration",
    "shape_bias",
    "rank",
    "collapse",
    "causality",
    "agreement",
)
"""What `run` measures, as far as the images and the models allow it."""


def option(help_text: str, panel: str, *names: str, rare: bool = False, **limits: Any) -> Any:
    """Return a typer option in a panel of the help page; --help-all alone shows a rare one."""
    return typer.Option(*names, help=help_text, rich_help_panel=panel, hidden=rare, **limits)


def flag(help_text: str, panel: str, *names: str, rare: bool = False) -> Any:
    """Return an option without a value."""
    return option(help_text, panel, *names, rare=rare, metavar="")


TrainData = Annotated[
    str | None,
    option("Images to learn from. Default: the train split of --data.", IMAGES, metavar="SOURCE"),
]
TrainLimit = Annotated[
    int | None,
    option(
        "Learn from the N images of smallest hash. Default: all; for quantize 128.",
        IMAGES,
        min=1,
        metavar="N",
    ),
]
"""Images that a probe is trained on, a model fine-tuned, or a quantization calibrated."""


@dataclass(frozen=True, kw_only=True)
class SharedOptions:
    """The shared options of a measuring command, with their help texts."""

    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Files (.pth, .safetensors); without one, the bundled demo. A file may have "
            "settings of its own: b.pth:heads=6.",
            show_default=False,
        ),
    ] = None
    models: Annotated[
        list[str] | None,
        option(
            "Another model beside the checkpoints: timm:NAME (pip extra timm) or hf:FOLDER (extra "
            "hf); may be repeated.",
            MODEL,
            "--model",
            metavar="NAME",
        ),
    ] = None
    weights: Annotated[
        list[str] | None,
        option(
            "Weights of each --model, in order: a file, pretrained (timm downloads) or random. "
            "Default: pretrained.",
            MODEL,
            "--weights",
            rare=True,
            metavar="FILE",
        ),
    ] = None
    data: Annotated[
        str | None,
        option(
            "Folder, .tar, CIFAR, .npz, or a name from `illama-eval list`. "
            "Default: $ILLAMA_DATA; for the demo checkpoint its own images.",
            IMAGES,
            "--data",
            metavar="SOURCE",
        ),
    ] = None
    split: Annotated[Split, option("Part of the source.", IMAGES)] = "test"
    labels: Annotated[
        Path | None,
        option(
            "CSV with a folder's labels (file,label), or ImageNet's real.json (ReaL).",
            IMAGES,
            rare=True,
        ),
    ] = None
    class_subset: Annotated[
        str | None,
        option(
            "File with the head's indices that are kept, one a line; or imagenet-a, imagenet-r.",
            IMAGES,
            rare=True,
        ),
    ] = None
    limit: Annotated[
        int | None, option("Measure the N images of smallest hash.", IMAGES, "--limit", metavar="N")
    ] = None
    seed: Annotated[int, option("Seed of --limit.", IMAGES, rare=True)] = 0
    preprocess: Annotated[Preprocess, option("Evaluation transform.", IMAGES, rare=True)] = "model"
    soft_mask: Annotated[
        float | None,
        option("Soft mask to run with: 0 causal, 1 bidirectional.", MODEL, metavar="0..1"),
    ] = None
    heads: Annotated[
        int | None, option("Attention heads, if the file does not say.", MODEL, rare=True, min=1)
    ] = None
    masking: Annotated[
        Masking | None,
        option("none, additive, modified or multiplicative.", MODEL, rare=True, metavar="NAME"),
    ] = None
    image_size: Annotated[
        int | None, option("Resize positions to this input size.", MODEL, rare=True, min=1)
    ] = None
    key: Annotated[
        str | None,
        option("Which weights to take, where a file has several models'.", MODEL, rare=True),
    ] = None
    mean: Annotated[
        str | None,
        option("Subtracted from R,G,B in 0..1. Default: the file's own.", IMAGES, rare=True),
    ] = None
    std: Annotated[
        str | None, option("What R,G,B are divided by. Default: the file's own.", IMAGES, rare=True)
    ] = None
    crop: Annotated[
        str | None,
        option(
            "Side of the centre crop over the short side, such as 0.875; none: the whole image.",
            IMAGES,
            rare=True,
        ),
    ] = None
    interpolation: Annotated[
        str | None, option("bicubic or bilinear. Default: the file's own.", IMAGES, rare=True)
    ] = None
    ema: Annotated[bool, flag("Take the averaged weights.", MODEL, "--ema", rare=True)] = False
    out: Annotated[
        Path | None, option("Run directory; by default reports/NAME-SHA/COMMAND-IMAGES.", OUTPUT)
    ] = None
    resume: Annotated[
        bool, flag("Continue an interrupted run, show a finished one.", OUTPUT, rare=True)
    ] = True
    overwrite: Annotated[bool, flag("Replace another run in --out.", OUTPUT, "--overwrite")] = False
    samples: Annotated[
        bool, flag("Keep 8 sample images with their attention.", OUTPUT, rare=True)
    ] = True
    everything: Annotated[
        bool, flag("Print every number of the whole source, not the headline.", OUTPUT, "--all")
    ] = False
    as_json: Annotated[bool, flag("Print run.json instead of a table.", OUTPUT, "--json")] = False
    save_every: Annotated[
        float, option("Seconds between partial saves, at least.", OUTPUT, rare=True, min=0)
    ] = 60.0
    device: Annotated[str, option("auto, cpu, cuda or cuda:N.", MACHINE, metavar="DEVICE")] = "auto"
    dtype: Annotated[Dtype, option("Precision.", MACHINE, rare=True)] = "fp32"
    batch_size: Annotated[str, option("auto, or images per pass.", MACHINE, rare=True)] = "auto"
    workers: Annotated[
        int | None,
        option(
            "Processes that read images ahead. Default: on a GPU all cores.",
            MACHINE,
            rare=True,
            min=0,
        ),
    ] = None
    cache: Annotated[
        Path | None, option("Folder that keeps prepared images for later runs.", MACHINE, rare=True)
    ] = None
    compiled: Annotated[
        bool, flag("Compile the model first (10 to 60 s).", MACHINE, "--compile", rare=True)
    ] = False
    command: tuple[str, ...] = ()
    """The words of the command line that repeats the run; no option."""
    given: Mapping[str, str] = field(default_factory=dict)
    """Names of the options that were given, and how they are written; no option."""

    def choose_data(self, demo: str | None) -> str | None:
        """Return the images to measure: `--data`, or what stands for it where it is not given.

        That is $ILLAMA_DATA, or None where it is not set. Where no model is given, the bundled
        checkpoint is measured on its own images, `demo`; None if it is not.
        """
        own = None if self.checkpoints or self.models else demo
        return self.data or own or os.environ.get(DATA_VARIABLE)


def _show_every_option(context: typer.Context, given: bool) -> None:
    """Print the help page with the rare options, too, and leave."""
    if given:
        for parameter in context.command.params:
            parameter.hidden = False  # type: ignore[attr-defined]
        typer.echo(context.get_help())
        raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all",
        help="Show the rare options, too, and exit.",
        metavar="",
        is_eager=True,
        callback=_show_every_option,
    ),
]


def with_shared(command: Callable[..., int]) -> Callable[..., int]:
    """Return the command with the fields of SharedOptions as further options.

    The command is called with a SharedOptions as its first argument and its own options by name.
    An option of its own takes the place of a shared one of that name.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    replaced = {each.name for each in own}
    shared = [each for each in _shared_parameters() if each.name not in replaced]
    keyword = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter("context", keyword, annotation=typer.Context)
    help_all = inspect.Parameter("help_all", keyword, default=False, annotation=HelpAll)

    def run(context: typer.Context, help_all: bool, **values: Any) -> int:  # noqa: ARG001
        check_inputs(values)
        chosen = {each.name: values.pop(each.name) for each in shared}
        words, flags = repeat_words(context), given_flags(context)
        return command(SharedOptions(**chosen, command=words, given=flags), **values)

    options = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    every = [context, *shared[:1], *options, *shared[1:], help_all]
    run.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in every}
    return run


@cache
def _shared_parameters() -> tuple[inspect.Parameter, ...]:
    """Return the fields of SharedOptions that are options; to read them takes milliseconds."""
    hints = get_type_hints(SharedOptions, include_extras=True)
    return tuple(
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if each.default is MISSING else each.default,
            annotation=hints[each.name],
        )
        for each in fields(SharedOptions)
        if each.name not in {"command", "given"}
    )
