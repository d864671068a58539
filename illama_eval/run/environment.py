"""What a run was made with: code, versions and device; and its timing."""

from __future__ import annotations

import platform
import resource
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from illama_eval.results import Row, Run
from illama_eval.run.job import Progress
from illama_eval.subjects.subject import Subject


def describe(device: torch.device) -> dict[str, Any]:
    """Return code commit, versions and device."""
    return {
        "code": {"version": version("illama"), **_commit()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "pillow")},
        },
        "device": device_name(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 if device.type == "cuda" else None,
    }


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or `cpu` with the instructions that matter here."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.backends.cpu.get_cpu_capability()})"


def timing(subject: Subject, progress: Progress, images: int, header: Mapping[str, Any]) -> Run:
    """Return the content of timing.json: speed and memory, which differ from run to run."""
    declared = {
        "images_per_second": (images / max(progress.seconds, 1e-9), "images/s"),
        "seconds": (progress.seconds, "s"),
        "peak_memory": (peak_memory(subject.device), "bytes"),
    }
    rows = tuple(
        Row(
            subject=subject.name,
            source=header["source"]["name"],
            study="run",
            metric=metric,
            value=float(value),
            unit=unit,
            images=images,
            reason="a single measurement",
        )
        for metric, (value, unit) in declared.items()
    )
    measured = {"batch_size": progress.batch_size, "images_per_pass": progress.chunk}
    return Run(header={"device": header["device"], **measured}, rows=rows)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes held so far: by torch on a GPU, by the process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@cache
def _commit() -> dict[str, Any]:
    """Return the commit of this code and whether it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(  # noqa: S603 - fixed words
                ["git", "-C", str(root), *words],  # noqa: S607 - whichever git the user has
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    if git("ls-files", "--error-unmatch", "illama_eval/run/environment.py") is None:
        return {"commit": None, "dirty": None}
    changed = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
