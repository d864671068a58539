"""What can be no set of images is said in plain words, before torch is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from illama.exits import InputError
from illama.source_names import NAMED, check_source
from illama.sources import _NAMED, SourceError, open_source


def test_the_names_are_those_of_the_sources():
    assert tuple(_NAMED) == NAMED


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("photo.jpg", "is a single image; give the folder"),
        ("drawing.PNG", "is a single image"),
        ("array.npy", "one array (.npy)"),
        ("set.zip", "unpack other archives first"),
        ("model.pth", "is a checkpoint"),
        ("notes.txt", "is not a folder, .tar or .npz"),
    ],
)
def test_files_that_hold_no_set_of_images_are_named(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"content")
    for check, error in ((check_source, InputError), (open_source, SourceError)):
        with pytest.raises(error) as caught:
            check(str(tmp_path / name))
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "--data is empty"),
        ("  ", "--data is empty"),
        ("cifar1", "did you mean cifar10"),
        ("/no/such/folder", "does not exist; give a path or one of demo"),
    ],
)
def test_what_is_not_there_is_named(spec, words):
    with pytest.raises(InputError) as caught:
        check_source(spec)
    assert words in str(caught.value)


def test_torch_is_not_imported_to_find_a_typo():
    code = """
import sys
from illama.exits import run
from illama_eval.cli import app
for words in (["missing.pth"], ["--data", "cifar1"], ["--weights", "none.pth"]):
    try:
        run(app, "illama-eval", ["accuracy", *words])
    except SystemExit as ended:
        assert ended.code == 3, words
    assert "torch" not in sys.modules, words
"""
    line = [sys.executable, "-c", code]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 3
