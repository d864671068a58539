"""ImageNet-1k: WordNet ids, the classes of its variants, and the reassessed labels (ReaL)."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from illama.source_names import CLASS_SUBSETS
from illama.sources.source import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

IMAGENET_CLASSES = 1000
NO_CLASS = -1
"""What fills the rows of images that have fewer true classes than others."""
_WNID = re.compile(r"n\d{8}")
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})")
_FILES = {"imagenet-a": "imagenet_a_wnids.txt", "imagenet-r": "imagenet_r_wnids.txt"}
"""The WordNet ids of ImageNet-A (Hendrycks et al., arXiv 1907.07174) and ImageNet-R (arXiv
2006.16241), from the authors' eval.py: github.com/hendrycks/natural-adv-examples (commit 2f866f5,
there as indices) and github.com/hendrycks/imagenet-r (commit 44d3a1d)."""


@cache
def imagenet_wnids(name: str = "imagenet_wnids.txt") -> tuple[str, ...]:
    """Return the WordNet ids of the 1000 ImageNet-1k classes, or of a file's, in index order."""
    return tuple((files("illama") / name).read_text("ascii").split())


def is_wnid(name: str) -> bool:
    """Return whether a name has the form of a WordNet id, such as n01440764."""
    return _WNID.fullmatch(name) is not None


def index_of_wnids() -> dict[str, int]:
    """Return the index of each WordNet id of ImageNet-1k."""
    return {wnid: index for index, wnid in enumerate(imagenet_wnids())}


def variant_indices(name: str) -> tuple[int, ...]:
    """Return the indices, among 1000, of the classes of an ImageNet variant.

    ImageNet-A and -R have 200 classes each; ImageNet-V2 (Recht et al., arXiv 1902.10811; folders 0
    to 999) and ImageNet-Sketch (Wang et al., arXiv 1905.13549) have all.
    """
    assert name in CLASS_SUBSETS
    if name not in _FILES:
        return tuple(range(IMAGENET_CLASSES))
    index_of = index_of_wnids()
    return tuple(index_of[wnid] for wnid in imagenet_wnids(_FILES[name]))


def variant_of(wnids: Sequence[str]) -> str:
    """Return the variant that has just these classes of ImageNet-1k; empty if none has."""
    return next((name for name, file in _FILES.items() if set(wnids) == _ids(file)), "")


def read_real_labels(path: Path, names: Sequence[str]) -> tuple[list[int], NDArray[np.int64]]:
    """Read the reassessed labels of ImageNet's validation images (Beyer et al., arXiv 2006.07159).

    `real.json` of github.com/google-research/reassessed-imagenet is a list with the true classes of
    ILSVRC2012_val_00000001, of 00000002, and so on; images without any are not part of the set.
    Return the positions in `names` of the others, and their true classes, [image, most],
    `NO_CLASS` where an image has fewer.

    Raises:
        SourceError: it is not such a list, or an image is not named as those of the validation set.
    """
    listed = _read_lists(path)
    found = [_VALIDATION.fullmatch(PurePosixPath(name).stem) for name in names]
    numbers = [0 if each is None else int(each[1]) for each in found]
    odd = next((i for i, n in enumerate(numbers) if not 1 <= n <= len(listed)), None)
    if odd is not None:
        raise SourceError(
            f"labels {path}: {names[odd]!r} is not one of ILSVRC2012_val_00000001 to"
            f" {len(listed):08d}; give the folder of ImageNet's validation images"
        )
    kept = [position for position, number in enumerate(numbers) if listed[number - 1]]
    if not kept:
        raise SourceError(f"labels {path}: none of the {len(names)} images has a class there")
    rows = zip_longest(*(listed[numbers[each] - 1] for each in kept), fillvalue=NO_CLASS)
    return kept, np.array(list(rows), np.int64).T


def _ids(file: str) -> set[str]:
    return set(imagenet_wnids(file))


def _read_lists(path: Path) -> list[list[int]]:
    try:
        listed: object = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"labels {path} cannot be read ({error})") from None
    if not isinstance(listed, list) or not listed or not all(map(_are_classes, listed)):
        raise SourceError(
            f"labels {path}: expected a list with a list of classes, 0 to 999, for each validation"
            " image, as in real.json of reassessed-imagenet"
        )
    return listed


def _are_classes(given: object) -> bool:
    """Return whether something is a list of different indices of ImageNet classes."""
    if not isinstance(given, list) or not all(type(each) is int for each in given):
        return False
    return len(set(given)) == len(given) and all(0 <= each < IMAGENET_CLASSES for each in given)
