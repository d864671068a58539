from __future__ import annotations

import os
import resource
import signal
import stat

import pytest

import illama
from illama.checkpoint import load
from illama.checkpoint.save import save_checkpoint
from illama.config import Config
from illama.files import CheckpointError

SMALL = Config(image_size=16, patch_size=4, width=12, heads=2, depth=2, classes=3)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(fresh, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save_checkpoint(fresh(SMALL), path)
    old = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(CheckpointError, match="disk full"):
            save_checkpoint(fresh(SMALL, 1), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(fresh, tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    save_checkpoint(fresh(SMALL), path)
    old = path.read_bytes()

    def interrupt(_: object, stream) -> None:
        stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(load.torch, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(fresh(SMALL, 1), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_saving_through_a_link_replaces_what_it_points_to(fresh, same_weights, tmp_path):
    target, link = tmp_path / "a.pth", tmp_path / "best.pth"
    save_checkpoint(fresh(SMALL), target)
    link.symlink_to(target)
    save_checkpoint(fresh(SMALL, 1), link)
    assert link.is_symlink()
    assert same_weights(illama.load(target), fresh(SMALL, 1))


def test_saved_files_have_the_usual_permissions(fresh, tmp_path):
    mask = os.umask(0o022)
    try:
        for name in ("a.pth", "a.safetensors"):
            save_checkpoint(fresh(SMALL), tmp_path / name)
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o644
    finally:
        os.umask(mask)


def test_a_folder_that_is_not_there_is_named(fresh, tmp_path):
    with pytest.raises(CheckpointError, match="folder does not exist"):
        save_checkpoint(fresh(SMALL), tmp_path / "missing" / "a.pth")
