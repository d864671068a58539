"""Sample images and the class token's attention in them as small pictures of the HTML page."""

from __future__ import annotations

import io

import numpy as np
from matplotlib import colormaps
from PIL import Image

from illama_eval.render.figures.attention import attention_finding, class_lines
from illama_eval.render.format.escape import sanitize
from illama_eval.render.models import ReportModel
from illama_eval.render.page.document import Sample, Samples
from illama_eval.render.page.embed import embed_picture
from illama_eval.render.samples import Images
from illama_eval.render.samples import Samples as Stored
from illama_eval.render.select import class_names
from illama_eval.results import Run

SIDE = 96
"""Most pixels along the side of an embedded image."""
LEVELS = 16
"""Colours of a map."""
_LONGEST = 60


def samples_of(model: ReportModel, run: Run, stored: Stored | None) -> Samples | None:
    """Return the stored samples as pictures, or None where there are none."""
    if stored is None or not len(stored.ids):
        return None
    names = class_names(run)
    shown = [
        Sample(
            name=sanitize(name, _LONGEST),
            classes=" ".join(class_lines(stored, names, number)),
            picture=_photograph(stored.images[number]),
            maps=[_heat(map_) for map_ in stored.attention[number]],
        )
        for number, name in enumerate(stored.ids)
    ]
    return Samples(
        title="Where the class token looks",
        caption=f"{model.label}: {attention_finding(stored)} Mean over the heads, from dark (none) "
        "to yellow (that map's own maximum).",
        samples=shown,
        layers=stored.attention.shape[1],
    )


def _photograph(pixels: Images) -> str:
    """Return the image, a large one made smaller."""
    image = Image.fromarray(pixels)
    stream = io.BytesIO()
    if max(image.size) <= SIDE:
        image.save(stream, "PNG", optimize=True)
        return embed_picture(stream.getvalue(), "png")
    image.thumbnail((SIDE, SIDE))
    image.save(stream, "JPEG", quality=82, optimize=True)
    return embed_picture(stream.getvalue(), "jpeg")


def _heat(map_: Images) -> str:
    """Return a map of the patch grid, one pixel a patch, in sixteen colours of cividis."""
    image = Image.fromarray((map_.astype(int) * LEVELS // 256).astype(np.uint8), mode="P")
    colours = colormaps["cividis"](np.linspace(0, 1, LEVELS))[:, :3]
    image.putpalette(np.rint(255 * colours).astype(np.uint8).tobytes())
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True, bits=4)
    return embed_picture(stream.getvalue(), "png")
