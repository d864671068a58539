"""`illama-eval quantize`: quantize a checkpoint and measure the effect."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from illama_eval.cli.app import STUDY, app
from illama_eval.commands.options import IMAGES, SharedOptions, option, with_shared


@app.command()
@with_shared
def quantize(
    shared: SharedOptions,
    bits: Annotated[
        int | None, option("8 (w8a8-dynamic), 6, 4, 3 or 2 (weights alone).", STUDY, "--bits")
    ] = None,
    scheme: Annotated[
        str | None,
        option(
            "w8, w8a8-dynamic, w8a8-static, w6, w4, w3, w2, fp8 (GPU), w4a4, or a JSON file of "
            "schemes by layer.",
            STUDY,
        ),
    ] = None,
    group_size: Annotated[
        int | None,
        option("Inputs that share a scale, below 8 bits. Default: 32.", STUDY, "--group-size"),
    ] = None,
    asymmetric: Annotated[bool, option("With zero points.", STUDY, "--asymmetric")] = False,
    smooth: Annotated[
        float | None, option("SmoothQuant of this strength, 0 to 1.", STUDY, "--smooth")
    ] = None,
    rounding: Annotated[
        Literal["nearest", "mse", "gptq"] | None,
        option("Nearest (the default), with clip search, or GPTQ.", STUDY),
    ] = None,
    clipping: Annotated[
        Literal["mse", "minmax", "percentile"] | None,
        option("Range of static inputs. Default: mse.", STUDY),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        option("Layers that stay in float, as patterns; none: no layer. Default: head.", STUDY),
    ] = None,
    calibration_data: Annotated[
        str | None, option("Images to calibrate on. Default: the train split of --data.", IMAGES)
    ] = None,
    calibration_images: Annotated[
        int | None, option("How many. Default: 128.", IMAGES, min=1)
    ] = None,
    latency: Annotated[
        Literal["both", "eager", "none"] | None,
        option("Time both modes (the default), eager only, or none.", STUDY),
    ] = None,
    sensitivity: Annotated[
        bool, option("Quantize each layer alone; a map of layer by kind.", STUDY, "--sensitivity")
    ] = False,
    sweep: Annotated[
        bool, option("Compare all schemes in one table and figure.", STUDY, "--sweep")
    ] = False,
    mixed: Annotated[
        bool, option("Choose each layer's bits within --budget.", STUDY, "--mixed")
    ] = False,
    budget: Annotated[
        float | None,
        option("Size of a mixed file, as a share of the full one. Default: 0.5.", STUDY),
    ] = None,
) -> int:
    """Post-training quantization: files, speed, and every property before and after."""
    from illama_eval.commands.quantize import make_options, run_quantize

    given = {
        "bits": bits,
        "scheme": scheme,
        "group_size": group_size,
        "asymmetric": asymmetric or None,
        "smooth": smooth,
        "rounding": rounding,
        "clipping": clipping,
        "exclude": None if exclude is None else tuple(each for each in exclude if each != "none"),
        "calibration_data": calibration_data,
        "calibration_images": calibration_images,
        "latency": latency,
        "budget": budget,
    }
    modes = {"sensitivity": sensitivity, "sweep": sweep, "mixed": mixed}
    chosen = [name for name, on in modes.items() if on]
    named = _scheme(bits, scheme)
    options = make_options(named, chosen, given)
    return run_quantize(shared, options)


def _scheme(bits: int | None, scheme: str | None) -> str:
    """Return the scheme that the options name."""
    by_bits = {8: "w8a8-dynamic", 6: "w6", 4: "w4", 3: "w3", 2: "w2"}
    if bits is None:
        return scheme or by_bits[8]
    if scheme is not None:
        raise typer.BadParameter("give --bits or --scheme, not both", param_hint="--bits")
    if bits not in by_bits:
        raise typer.BadParameter(f"{bits} is not 8, 6, 4, 3 or 2", param_hint="--bits")
    return by_bits[bits]
