"""The command `illama`: inspect, convert and fetch checkpoints, and train models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from illama.checkpoint.released import HUB, RELEASED
from illama.config import Masking
from illama.exits import TRACEBACK, InputError, UsageError, run
from illama.files import require_file
from illama.help_pages import Commands
from illama.preprocessing import TransformOptions

app = typer.Typer(
    cls=Commands,
    help="Image LLaMA (Wang et al. 2024): its checkpoints and their training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _flag(name: str, help_text: str) -> Any:
    """Return an option without a value."""
    return typer.Option(name, metavar="", help=help_text)


Heads = Annotated[int | None, typer.Option(min=1, help="Attention heads, if not in the file.")]
ImageSize = Annotated[int | None, typer.Option(min=1, help="Pixels; resizes the position table.")]
SoftMask = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Soft mask to run with: 0 causal, 1 bidirectional."),
]
MaskingOption = Annotated[Masking | None, typer.Option(help="Run with another masking.")]
Ema = Annotated[bool, _flag("--ema", "Take the averaged weights (model_ema).")]
Key = Annotated[
    str | None, typer.Option(help="Which weights to take, where a file has several models'.")
]
Mean = Annotated[str | None, typer.Option(help="Subtracted from R,G,B in 0..1.")]
Std = Annotated[str | None, typer.Option(help="What R,G,B are divided by.")]
Crop = Annotated[
    str | None,
    typer.Option(help="Side of the centre crop over the short side; none: the whole image."),
]
InterpolationOption = Annotated[
    str | None, typer.Option("--interpolation", help="bicubic or bilinear.")
]


@app.callback()
def root(
    *, traceback: Annotated[bool, _flag(TRACEBACK, "Show where an error was raised.")] = False
) -> None:
    """Declare the option that `exits.run` accepts anywhere on the command line."""


@app.command("inspect")
def inspect_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .pth or .safetensors checkpoint.")
    ],
    *,
    as_json: Annotated[bool, _flag("--json", "Print JSON.")] = False,
    heads: Heads = None,
    soft_mask: SoftMask = None,
    masking: MaskingOption = None,
    image_size: ImageSize = None,
    ema: Ema = False,
    key: Key = None,
    mean: Mean = None,
    std: Std = None,
    crop: Crop = None,
    interpolation: InterpolationOption = None,
) -> None:
    """Show what a checkpoint is, where it comes from, what is assumed, and how it would be run."""
    require_file(file)
    transform = TransformOptions.parse(mean, std, crop, interpolation)
    from illama.checkpoint.load import read_checkpoint
    from illama.checkpoint.segmenter import is_segmenter, read_segmenter
    from illama.inspection import show_checkpoint, show_segmenter

    if is_segmenter(file):
        _check_segmenter_options(
            {"--heads": heads, "--soft-mask": soft_mask, "--masking": masking, "--key": key}
            | {"--ema": ema or None, **{f"--{name}": w for name, w in transform.given().items()}}
        )
        show_segmenter(read_segmenter(file, image_size=image_size).to_dict(), as_json=as_json)
        return
    described = read_checkpoint(
        file,
        image_size=image_size,
        heads=heads,
        soft_mask=soft_mask,
        masking=masking,
        ema=ema,
        key=key,
        transform=transform,
    ).to_dict()
    show_checkpoint(described, as_json=as_json)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A checkpoint in any layout.")],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Ends in .pth (released layout) or .safetensors (ours)."
        ),
    ],
    *,
    overwrite: Annotated[bool, _flag("--overwrite", "Replace OUT.")] = False,
    heads: Heads = None,
    soft_mask: SoftMask = None,
    masking: MaskingOption = None,
    image_size: ImageSize = None,
    ema: Ema = False,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Store the class names of a data source, in its order, or of a .txt, one a line."
        ),
    ] = None,
    key: Key = None,
    mean: Mean = None,
    std: Std = None,
    crop: Crop = None,
    interpolation: InterpolationOption = None,
) -> None:
    """Write a checkpoint's weights, config, transform, arguments and class names elsewhere."""
    require_file(source)
    transform = TransformOptions.parse(mean, std, crop, interpolation)
    from illama.checkpoint.load import read_checkpoint
    from illama.checkpoint.save import save_checkpoint
    from illama.sources import read_class_names

    if out.exists() and (not overwrite or out.samefile(source)):
        advice = "name another file" if out.samefile(source) else "pass --overwrite to replace it"
        raise InputError(f"{out}: exists already; {advice}")
    found = read_checkpoint(
        source,
        image_size=image_size,
        heads=heads,
        soft_mask=soft_mask,
        masking=masking,
        ema=ema,
        key=key,
        transform=transform,
    )
    named = found.class_names if classes is None else read_class_names(classes)
    save_checkpoint(
        found.model,
        out,
        soft_mask=found.soft_mask,
        epoch=found.epoch,
        args=found.args,
        class_names=named,
        transform=found.transform,
        assumptions=found.assumptions,
    )
    for assumption in found.assumptions:
        typer.echo(f"{out}: keeps what was assumed: {assumption}", err=True)
    typer.echo(out)


@app.command()
def fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help=f"One of {', '.join(f.name for f in RELEASED)}.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder or file to write.")] = Path(),
    url: Annotated[
        str, typer.Option(envvar="ILLAMA_HUB", help="Address of the folder of published files.")
    ] = HUB,
    overwrite: Annotated[bool, _flag("--overwrite", "Replace another file.")] = False,
    address: Annotated[bool, _flag("--address", "Only print address and sha256.")] = False,
) -> None:
    """Download a file that the authors published, and verify its sha256."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress

    from illama.checkpoint import released

    file = released.named(name)
    source = f"{released.address(file, url)}\nsha256 {file.sha256}"
    typer.echo(source, err=not address)
    if address:
        return
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), DownloadColumn())
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    with bar:
        task = bar.add_task(file.name, total=file.megabytes * 1e6)
        path = released.fetch(
            file,
            out,
            base=url,
            overwrite=overwrite,
            progress=lambda count: bar.advance(task, count),
        )
    typer.echo(path)


@app.command()
def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A name that --list shows.")
    ] = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder to write; the weights are named after it. Default: trained/illama_RECIPE.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE", help="Images to train on, a path or a name; else the recipe's."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe."),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Train on the N images of smallest hash.")
    ] = None,
    test_images: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Test on the N images of smallest hash.")
    ] = None,
    list_recipes: Annotated[bool, _flag("--list", "Show the recipes.")] = False,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="auto, cpu or cuda; torchrun starts several.")
    ] = "auto",
    workers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Processes that read images.")
    ] = 0,
    compiled: Annotated[bool, _flag("--compile", "Compile the model.")] = False,
    sharded: Annotated[
        bool, _flag("--shard", "Shard the model over torchrun's processes.")
    ] = False,
    resume: Annotated[
        str,
        typer.Option(
            metavar="WHAT", help="auto: resume OUT's newest checkpoint; no; or a checkpoint."
        ),
    ] = "auto",
    keep: Annotated[
        int, typer.Option(min=1, metavar="N", help="Checkpoints kept, beside the best.")
    ] = 3,
    keep_every: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Keep the weights of every Nth epoch, for a trajectory."
        ),
    ] = None,
    save_steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Also save every N steps, not only every epoch."),
    ] = None,
    max_bad: Annotated[
        int, typer.Option(min=0, metavar="N", help="Unreadable images to tolerate.")
    ] = 0,
    tensorboard: Annotated[
        bool,
        typer.Option(metavar="", show_default=False, help="Also write the log for TensorBoard."),
    ] = False,
) -> None:
    """Train a model by a recipe; write weights, log and the recipe as it was used."""
    from illama.training.recipe import RECIPES, find_recipe

    if list_recipes:
        for each in RECIPES.values():
            typer.echo(f"{each.name:<22}{each.summary}")
        return
    if recipe is None:
        raise typer.BadParameter("name a recipe; --list shows them", param_hint="RECIPE")
    given = [*(changes or ()), *([] if data is None else [f"data={data}"])]
    chosen = find_recipe(recipe).override(given)
    from rich.console import Console

    from illama.distributed import choose_device
    from illama.training.curves import draw_curves
    from illama.training.loader import open_splits
    from illama.training.loop import Execution, fit

    execution = Execution(
        device=choose_device(device),
        workers=workers,
        compiled=compiled,
        sharded=sharded,
        resume=resume,
        keep=keep,
        keep_every=keep_every,
        save_steps=save_steps,
        max_bad=max_bad,
        tensorboard=tensorboard,
    )
    folder = out or Path("trained") / f"illama_{recipe}"
    splits = open_splits(chosen, images, test_images)
    trained = fit(chosen, *splits, folder, execution=execution, console=Console(stderr=True))
    if trained.is_main:
        draw_curves([folder / "log.jsonl"], folder / "curves.png")
        typer.echo(trained.checkpoint)


@app.command()
def curves(
    logs: Annotated[
        list[Path], typer.Argument(metavar="LOG", help="log.jsonl files, or folders with one.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="Ends in .png, .svg or .pdf.")] = Path("curves.png"),
) -> None:
    """Draw loss, accuracy and soft mask over the epochs of trainings, all in one figure."""
    from illama.training.curves import draw_curves

    draw_curves(logs, out)
    typer.echo(out)


@app.command("init-llama2")
def init_llama2(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A LLaMA-2 in Hugging Face form.")
    ],
    *,
    size: Annotated[Literal["tiny", "small", "base"], typer.Option(help="Model to fill.")],
    out: Annotated[Path, typer.Option(help="Ends in .pth or .safetensors.")],
    head_aware: Annotated[
        bool, _flag("--head-aware", "Keep heads and rotary pairs whole.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights that are drawn.")] = 0,
    overwrite: Annotated[bool, _flag("--overwrite", "Replace OUT.")] = False,
) -> None:
    """Select the weights of a model's blocks from a LLaMA-2, to train from."""
    from illama.checkpoint.llama2 import initialize

    if out.exists() and not overwrite:
        raise InputError(f"{out}: exists already; pass --overwrite to replace it")
    initialize(folder, size, out, head_aware=head_aware, seed=seed)
    typer.echo(out)


def _check_segmenter_options(given: Mapping[str, object]) -> None:
    """Refuse options that would change nothing of what is shown of a segmenter."""
    flag = next((name for name, value in given.items() if value is not None), None)
    if flag is not None:
        raise UsageError(f"{flag} changes nothing of a segmenter's description; leave it out")


def main() -> None:
    """Run the command line."""
    run(app, "illama")


if __name__ == "__main__":
    main()
