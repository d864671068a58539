"""`illama-eval quantize`: quantize a checkpoint and measure the effect."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from illama_eval.cli.app import CHANGE, STUDY, app
from illama_eval.commands.options import (
    SharedOptions,
    TrainData,
    TrainLimit,
    flag,
    option,
    with_shared,
)


@app.command(rich_help_panel=CHANGE)
@with_shared
def quantize(
    shared: SharedOptions,
    scheme: Annotated[
        list[str] | None,
        option(
            "Bits, 8 (the default: inputs, too), 6, 4, 3 or 2 (weights alone); or a scheme: w8, "
            "w8a8-dynamic, w8a8-static, w6, w4, w3, w2, fp8 (GPU), w4a4; or a JSON file of schemes "
            "by layer.",
            STUDY,
            "--bits",
            "--scheme",
            metavar="SCHEME",
        ),
    ] = None,
    group_size: Annotated[
        int | None,
        option(
            "Inputs that share a scale, below 8 bits. Default: 32.",
            STUDY,
            "--group-size",
            rare=True,
        ),
    ] = None,
    asymmetric: Annotated[
        bool,
        flag("Give each group of weights a zero point, too.", STUDY, "--asymmetric", rare=True),
    ] = False,
    smooth: Annotated[
        float | None, option("SmoothQuant of this strength, 0 to 1.", STUDY, "--smooth", rare=True)
    ] = None,
    rounding: Annotated[
        Literal["nearest", "mse", "gptq"] | None,
        option("Nearest (the default), with clip search, or GPTQ.", STUDY, rare=True),
    ] = None,
    clipping: Annotated[
        Literal["mse", "minmax", "percentile"] | None,
        option("Range of static inputs. Default: mse.", STUDY, rare=True),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        option(
            "Layers that stay in float, as patterns; none: no layer. Default: head.",
            STUDY,
            rare=True,
        ),
    ] = None,
    train_data: TrainData = None,
    train_limit: TrainLimit = None,
    latency: Annotated[
        Literal["both", "eager", "none"] | None,
        option(
            "Time eager and compiled models, eager ones only, or none. Default: as much of both "
            "as fits about 20 s.",
            STUDY,
        ),
    ] = None,
    sensitivity: Annotated[
        bool, flag("Quantize each layer alone; a map of layer by kind.", STUDY, "--sensitivity")
    ] = False,
    sweep: Annotated[
        bool, flag("Compare all schemes in one table and figure.", STUDY, "--sweep")
    ] = False,
    mixed: Annotated[
        bool, flag("Choose each layer's bits within --budget.", STUDY, "--mixed")
    ] = False,
    budget: Annotated[
        float | None,
        option(
            "Size of a mixed file, as a share of the full one. Default: 0.5.",
            STUDY,
            metavar="SHARE",
        ),
    ] = None,
) -> int:
    """Post-training quantization: files, speed, and every property before and after.

    The linear layers of any network are quantized, and those that cannot be are listed. Only
    models of illama are written to a file, and only they take SmoothQuant.
    """
    from illama_eval.commands.quantize import make_options, run_quantize

    given = {
        "scheme": scheme,
        "group_size": group_size,
        "asymmetric": asymmetric or None,
        "smooth": smooth,
        "rounding": rounding,
        "clipping": clipping,
        "exclude": None if exclude is None else tuple(each for each in exclude if each != "none"),
        "train_data": train_data,
        "train_limit": train_limit,
        "latency": latency,
        "budget": budget,
    }
    modes = {"sensitivity": sensitivity, "sweep": sweep, "mixed": mixed}
    chosen = [name for name, on in modes.items() if on]
    options = make_options(_scheme(scheme or ["8"]), chosen, given)
    return run_quantize(shared, options)


def _scheme(given: list[str]) -> str:
    """Return the scheme of a number of bits, or the one that is named."""
    named, *others = given
    if others:
        raise typer.BadParameter(
            f"give one, not {named} and {others[0]}", param_hint="--bits or --scheme"
        )
    if not named.isdecimal():
        return named
    by_bits = {"8": "w8a8-dynamic", "6": "w6", "4": "w4", "3": "w3", "2": "w2"}
    if named not in by_bits:
        raise typer.BadParameter(f"{named} is not 8, 6, 4, 3 or 2", param_hint="--bits")
    return by_bits[named]
