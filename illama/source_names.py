"""The names of bundled and released image sets, and a first look at a path; without torch."""

from __future__ import annotations

from pathlib import Path

from illama.exits import InputError
from illama.suggestions import did_you_mean

DATA_VARIABLE = "ILLAMA_DATA"
"""Environment variable that names images, or the folder that holds CIFAR."""
NAMED = ("demo", "demo-shapes", "digits", "photos", "cifar10", "cifar100")
"""Names that `--data` takes instead of a path."""
CLASS_SUBSETS = ("imagenet-a", "imagenet-r", "imagenet-v2", "imagenet-sketch")
"""Names that `--class-subset` takes instead of a file."""

_PICTURES = frozenset((".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"))
_ARCHIVES = frozenset((".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"))


def check_source(spec: str) -> None:
    """Refuse what can be no set of images, before anything slow is done.

    Raises:
        InputError: it is empty, missing, a single image, or a file of another kind.
    """
    if spec in NAMED:
        return
    if not spec.strip():
        raise InputError(f"--data is empty; give a path or one of {', '.join(NAMED)}")
    path = Path(spec)
    if not path.exists():
        hint = did_you_mean(spec, NAMED) or f"; give a path or one of {', '.join(NAMED)}"
        raise InputError(f"{spec} does not exist{hint}")
    if path.is_dir() or path.suffix in {".tar", ".npz"}:
        return
    raise InputError(f"{spec} {_what(path)}")


def _what(path: Path) -> str:
    """Return what a file is that holds no set of images, and what to do."""
    kind = path.suffix.lower()
    if kind in _PICTURES:
        return f"is a single image; give the folder it is in: --data {path.parent}"
    if kind == ".npy":
        return "is one array (.npy); save images and labels together with numpy.savez as .npz"
    if kind in _ARCHIVES:
        return f"is not a folder, .tar or .npz but {kind}; unpack other archives first"
    if kind in {".pth", ".pt", ".safetensors", ".bin", ".ckpt"}:
        return "is a checkpoint; give it as an argument, and images with --data"
    return "is not a folder, .tar or .npz of images"
