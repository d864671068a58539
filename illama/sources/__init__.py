"""Image sources: opening a set of images by name, or by path and content."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from illama.exits import InputError
from illama.source_names import DATA_VARIABLE, check_source
from illama.sources.ade20k import find_ade20k, open_ade20k
from illama.sources.bundled import open_demo, open_demo_shapes, open_digits, open_photos
from illama.sources.cifar import find_cifar, open_cifar
from illama.sources.cue_conflict import attach_cues
from illama.sources.folder import open_folder
from illama.sources.groups import attach_groups
from illama.sources.npz import open_npz
from illama.sources.source import Source, SourceError, hash_order
from illama.sources.splits import SPLIT_NAMES, find_shards, split_folder
from illama.sources.tables import read_class_subset, read_lines
from illama.sources.tar import open_tar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SOURCES", "Source", "SourceError", "hash_order", "open_source", "read_class_names"]


SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "demo": "drawn shapes, each with a texture of its own, 10 classes, 32 px (also as split"
        " cue-conflict)",
        "demo-shapes": "the same images with the class of each pixel, for segment",
        "digits": "scikit-learn's 1,797 handwritten digits, 10 classes, 8 px",
        "photos": "30 crops of scikit-learn's two photographs, unlabeled",
        "cifar10": f"CIFAR-10 under ${DATA_VARIABLE}",
        "cifar100": f"CIFAR-100 under ${DATA_VARIABLE}",
        "DIR/CLASS/*.jpg": "a folder per class, or DIR/test, DIR/val, DIR/train of these;"
        " WordNet ids are mapped to the 1000 ImageNet indices",
        "DIR/SHAPE/SHAPE1-TEXTURE2.jpg": "cue-conflict images, for shape-bias",
        "DIR/*.jpg": "a flat folder, labeled by a CSV of file,label"
        " (and group: video, patient) or unlabeled",
        "ADE20K folder": "images/ and annotations/, each with training and validation",
        "*.tar": "a shard or a folder of them: KEY.jpg with KEY.cls, or a directory per class",
        "CIFAR folder": "the python or binary release, or its parent",
        "*.npz": "arrays images uint8 [image, row, column, 3], labels, optional ids",
    }
)
"""The names and the layouts of paths that can be opened, each with one line about it."""


def open_source(
    spec: str,
    *,
    split: str = "test",
    labels: Path | None = None,
    class_subset: str | Path | None = None,
) -> Source:
    """Open a set of images by name or by path; paths are recognised by their content.

    `labels` is a CSV for a folder or tar of images, with a column `group` where images of a group
    are not independent, or the `real.json` of ImageNet's reassessed labels; `class_subset` is a
    file of the head's indices to keep, or a name of `CLASS_SUBSETS`. A set without splits ignores
    `split`. Images in files are not read yet.

    Raises:
        SourceError: unknown, missing, damaged, or with options that do not fit.
    """
    if spec in _NAMED and labels is not None:
        raise SourceError(
            f"{spec} has its own labels; leave out the CSV, which is for a folder or tar"
        )
    try:
        check_source(spec)
    except InputError as refusal:
        raise SourceError(str(refusal)) from None
    source = _NAMED[spec](split) if spec in _NAMED else _open_path(Path(spec), split, labels)
    if labels is not None and source.further_labels is None:
        source = attach_groups(source, labels)
    if class_subset is None:
        return source
    if source.further_labels is not None:
        raise SourceError(
            f"labels {labels}: some images have classes outside of a class subset; leave it out"
        )
    return replace(source, class_subset=read_class_subset(class_subset))


def read_class_names(spec: str) -> tuple[str, ...]:
    """Return the class names of a source, in its order, or of a `.txt` file, one a line.

    Raises:
        SourceError: it is missing or damaged, or has no class names.
    """
    if Path(spec).suffix == ".txt":
        return read_lines(Path(spec))
    classes = open_source(spec, split="train").classes
    if classes is None:
        raise SourceError(f"{spec} has no class names; give a .txt with one a line")
    return classes


def _open_cifar_by_name(classes: int, split: str) -> Source:
    name = f"cifar{classes}"
    data = os.environ.get(DATA_VARIABLE)
    if not data:
        raise SourceError(
            f"{name}: {DATA_VARIABLE} is not set; set it to the folder that holds CIFAR-{classes}"
            " (python or binary release, https://www.cs.toronto.edu/~kriz/cifar.html)"
        )
    for folder in (Path(data), Path(data) / name):
        found = find_cifar(folder, classes)
        if found:
            return open_cifar(*found, split)
    raise SourceError(
        f"{name}: no CIFAR-{classes} release in {data}; unpack one there, or set"
        f" {DATA_VARIABLE} to the folder that holds it"
    )


_NAMED: Mapping[str, Callable[[str], Source]] = {
    "demo": open_demo,
    "demo-shapes": open_demo_shapes,
    "digits": open_digits,
    "photos": open_photos,
    "cifar10": partial(_open_cifar_by_name, 10),
    "cifar100": partial(_open_cifar_by_name, 100),
}


def _open_path(path: Path, split: str, labels: Path | None) -> Source:
    if path.is_dir():
        return _open_folder(path, split, labels)
    if path.suffix == ".tar":
        return open_tar([path], path.stem, split, labels)
    if labels is not None:
        raise SourceError(
            f"{path} has its own labels; leave out the CSV, which is for a folder or tar"
        )
    return open_npz(path, path.stem)


def _open_folder(path: Path, split: str, labels: Path | None) -> Source:
    release = find_cifar(path)
    if release and labels is None:
        return open_cifar(*release, split)
    if find_ade20k(path) and labels is None:
        return open_ade20k(path, split)
    root, chosen = split_folder(path, split) or (path, "all")
    here = Path(os.path.abspath(root))  # noqa: PTH100 - a link keeps its own name
    if chosen == "all" and here.name.lower() in SPLIT_NAMES:
        chosen = here.name.lower()
    name = here.name if chosen == "all" else here.parent.name
    shards = find_shards(root)
    if not shards:
        return attach_cues(open_folder(root, name, chosen, labels))
    source = open_tar(shards, name, split, labels)
    return source if chosen == "all" else replace(source, split=chosen)
