"""Containers by content: torch's two, safetensors, and what other files are, with what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from illama.files import CheckpointError

Container = Literal["zip", "legacy", "safetensors"]

_GIVE = "give a .pth or .safetensors checkpoint"
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a git-LFS pointer, not the weights; run `git lfs pull`"),
    (b"\x89HDF", f"an HDF5 file (Keras), which is not read; {_GIVE}"),
    (b"\x93NUMPY", f"a NumPy array (.npy), not a checkpoint; {_GIVE}"),
    (
        b"\xff\xd8\xff",
        f"a photo (JPEG), not a checkpoint; {_GIVE}, and a folder of photos as --data",
    ),
    (b"\x89PNG", f"an image (PNG), not a checkpoint; {_GIVE}, and a folder of images as --data"),
    (b"\x1f\x8b", "compressed (gzip); unpack it and name the checkpoint in it"),
    (b"BZh", "compressed (bzip2); unpack it and name the checkpoint in it"),
    (b"\xfd7zXZ", "compressed (xz); unpack it and name the checkpoint in it"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it and name the checkpoint in it"),
    (b"GGUF", f"a GGUF file (llama.cpp), which is not read; {_GIVE}"),
    (b"PK\x05\x06", "an empty zip archive; name another file"),
)
"""First bytes of files that are sound but not checkpoints, and what they are."""


def recognise(head: bytes) -> Container:
    """Return the container that a file's first bytes identify.

    Raises:
        CheckpointError: they are of none of the three.
    """
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"\x80"):
        return "legacy"
    for magic, what in _OTHERS:
        if head.startswith(magic):
            raise CheckpointError(f"is {what}")
    if head.lstrip().startswith(b"<"):
        raise CheckpointError("is a web page (HTML), not a checkpoint; download the file itself")
    if head.lstrip()[:1] in (b"{", b"["):
        raise CheckpointError(f"is text (JSON), not a checkpoint; {_GIVE}")
    raise CheckpointError(f"is not a checkpoint: it begins with {head[:16]!r}; {_GIVE}")


def check_zip(names: Sequence[str]) -> None:
    """Refuse a zip archive that torch.save did not write, as what it is.

    Raises:
        CheckpointError: it is NumPy's, TorchScript's, an exported program or any other archive.
    """
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(_numpy({name.removesuffix(".npy") for name in names}))
    if any("/code/" in name for name in names):
        raise CheckpointError(
            "is a TorchScript program, not weights alone; save these with "
            "torch.save(torch.jit.load(FILE).state_dict(), OUT)"
        )
    if any(
        re.search(r"(^|/)(archive_format|serialized_exported_program\.json)$", n) for n in names
    ):
        raise CheckpointError(
            "is an exported program (.pt2), not weights alone; save these with "
            "torch.save(torch.export.load(FILE).state_dict, OUT)"
        )
    if not any(name.endswith("data.pkl") for name in names):
        shown = ", ".join(names[:3]) or "nothing"
        raise CheckpointError(
            f"is a zip archive, not a checkpoint (it has {shown}); unpack it and name the "
            "checkpoint in it"
        )


def _numpy(arrays: set[str]) -> str:
    """Return what an .npz file is, and what to do with it."""
    if "images" in arrays:
        return "is a set of images (.npz), not a checkpoint; give it with --data"
    if arrays & {"logits", "probabilities"}:
        return "is saved predictions (.npz), not a checkpoint; give it with --predictions"
    if any("/" in name for name in arrays):
        return (
            "is weights of JAX (.npz); let timm translate them: torch.save(timm.create_model("
            "NAME, checkpoint_path=FILE).state_dict(), OUT)"
        )
    return f"is arrays of NumPy (.npz), not a checkpoint; {_GIVE}"
