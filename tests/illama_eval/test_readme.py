"""The README: short, its links lead somewhere, and every command and program in it runs."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import illama.cli
from illama.checkpoint.load import load
from illama.checkpoint.save import save_checkpoint
from illama.sources import open_source
from illama_eval.subjects.checkpoint import DEMO_CHECKPOINT

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_WORDS = 900
INSTALLS = "-m venv"
"""What begins the two commands that install: .ci/run runs them."""
SMALLER = {
    "transfer": ("--limit", "100", "--train-limit", "100"),
    "quantize": ("--latency", "none", "--train-limit", "8"),
}
"""Options that make a command of the README cheap, and change nothing of what it shows."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += [line.removeprefix("- run: ") for line in "".join(blocks("yaml")).splitlines()]
    lines += re.findall(r"`(illama-eval [^`]*--update-baseline)`", README.replace("\n", " "))
    return [shlex.split(line, comments=True) for line in lines if line and INSTALLS not in line]


def test_the_readme_is_short():
    assert len(README.split()) <= MOST_WORDS


def test_every_link_of_the_readme_leads_to_a_file():
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing


@pytest.fixture
def workplace(command, without_figures, monkeypatch, tmp_path):
    """Fill an empty folder with what the README's commands name; return how one is run."""

    def run(program: str, *words: str) -> None:
        if program == "illama-eval":
            code, _, err = command(*words, *SMALLER.get(words[0], ()))
            assert code == 0, (words, err)
            return
        monkeypatch.setattr(sys, "argv", [program, *words])
        with pytest.raises(SystemExit) as ended:
            illama.cli.main()
        assert not ended.value.code, words

    run("illama", "convert", str(DEMO_CHECKPOINT), "model.pth")
    for name in ("a.pth", "b.pth"):
        shutil.copy("model.pth", name)
    (tmp_path / "epochs").mkdir()
    for epoch in (0, 1):
        path = tmp_path / "epochs" / f"epoch-{epoch + 1:04}.safetensors"
        save_checkpoint(load(DEMO_CHECKPOINT), path, epoch=epoch)
    source = open_source("demo").limit(30, 0)
    for number, image in enumerate(map(source.read, range(30))):
        folder = tmp_path / "path" / "to" / "images" / source.classes[source.labels[number]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    logits = np.random.default_rng(0).normal(size=(60, 10)).astype(np.float32)
    np.savez("saved.npz", logits=logits, labels=np.arange(60) % 10)
    for name in ("A", "B"):
        given = ("--data", "path/to/images", "--out", f"RUN_{name}")
        run("illama-eval", "run", f"{name.lower()}.pth", *given)
    (tmp_path / "policy.toml").write_text(blocks("toml")[0], encoding="utf-8")
    (tmp_path / "reports").mkdir(exist_ok=True)
    given = ("--baseline", "reports/baseline.json", "--update-baseline")
    run("illama-eval", "report", "RUN_A", *given)
    return run


@pytest.mark.slow
def test_every_command_and_program_of_the_readme_runs(workplace):
    found = commands()
    assert len(found) >= 15
    for words in found:
        if "tensorboard" not in words or find_spec("tensorboard"):
            workplace(*words)
    for program in blocks("python"):
        exec(program.replace('data="cifar10"', 'data="path/to/images"'), {})
