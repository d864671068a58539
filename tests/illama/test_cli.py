"""The command line: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import argparse
import functools
import hashlib
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from illama.checkpoint import released
from illama.checkpoint.load import read_checkpoint
from illama.checkpoint.save import save_checkpoint
from illama.config import Config
from illama.model import Model

SMALL = Config(image_size=16, patch_size=4, width=12, heads=2, depth=2, classes=3)


GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "official_micro.pth"


def test_help_does_not_import_torch():
    code = (
        "import sys\nfrom illama import cli\n"
        "try: cli.main()\n"
        "finally: assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code, "--help"], check=True, capture_output=True)


def test_without_arguments_it_shows_its_commands(illama):
    code, out, err = illama()
    assert code == 2
    assert all(name in out + err for name in ("inspect", "convert", "fetch"))


def test_inspect_takes_what_the_file_does_not_tell(illama, checkpoint):
    options = ("--soft-mask", 0, "--image-size", 24, "--heads", 3, "--json")
    seen = json.loads(illama("inspect", checkpoint, *options)[1])
    assert seen["soft_mask"] == 0
    assert (seen["config"]["image_size"], seen["config"]["heads"]) == (24, 3)
    seen = json.loads(illama("inspect", checkpoint, "--masking", "additive", "--json")[1])
    assert seen["config"]["masking"] == "additive"


@pytest.mark.parametrize("words", [("--heads", 3), ("--ema",), ("--mean", "0.5")], ids=str)
def test_inspect_refuses_options_that_say_nothing_of_a_segmenter(illama, words):
    demo = Path(__file__).parents[2] / "illama_eval" / "demo" / "illama_demo_segmenter.safetensors"
    code, _, err = illama("inspect", demo, *words)
    assert code == 2
    assert f"{words[0]} changes nothing of a segmenter's description" in err


def test_converting_there_and_back_changes_no_bit(illama, tmp_path):
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.pth"
    assert illama("convert", GOLDEN, ours)[:2] == (0, f"{ours}\n")
    assert illama("convert", ours, back)[0] == 0
    first, last = read_checkpoint(GOLDEN), read_checkpoint(back)
    assert last.sha256 == first.sha256
    assert (last.epoch, last.args, last.soft_mask) == (first.epoch, first.args, 0)
    assert last.model.config == first.model.config


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_convert_keeps_what_was_assumed(illama, tmp_path, suffix):
    bare, out = tmp_path / "bare.pth", tmp_path / f"converted{suffix}"
    model = Model(Config(image_size=32, patch_size=8, width=96, depth=1, heads=3, classes=4))
    save_checkpoint(model, tmp_path / "ours.pth")
    with torch.serialization.safe_globals([argparse.Namespace]):
        torch.save(torch.load(tmp_path / "ours.pth", weights_only=True)["model"], bare)
    assert illama("convert", bare, out)[0] == 0
    before, after = (read_checkpoint(path).assumptions for path in (bare, out))
    assert before == after
    assert {each.what for each in after} >= {"heads", "normalization"}
    told = read_checkpoint(out, heads=3).assumptions
    assert "heads" not in {each.what for each in told}
    again = tmp_path / "again.safetensors"
    assert illama("convert", out, again)[0] == 0
    assert read_checkpoint(again).assumptions == after


def test_convert_replaces_nothing_unless_told(illama, checkpoint, tmp_path):
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"precious")
    code, _, err = illama("convert", checkpoint, out)
    assert code == 3
    assert "--overwrite" in err
    assert out.read_bytes() == b"precious"
    assert illama("convert", checkpoint, out, "--overwrite")[0] == 0
    assert read_checkpoint(out).sha256 == read_checkpoint(checkpoint).sha256


def test_convert_refuses_to_write_over_its_own_input(illama, checkpoint):
    before = checkpoint.read_bytes()
    code, _, err = illama("convert", checkpoint, checkpoint, "--overwrite")
    assert code == 3
    assert "another file" in err
    assert checkpoint.read_bytes() == before


def test_convert_keeps_the_soft_mask_it_was_told(illama, tmp_path, checkpoint):
    out = tmp_path / "out.safetensors"
    assert illama("convert", checkpoint, out, "--soft-mask", 1)[0] == 0
    assert read_checkpoint(out).soft_mask == 1


@pytest.fixture
def hub(tmp_path, checkpoint, monkeypatch):
    """Serve the checkpoint under a published name; return the address and the file."""
    folder = tmp_path / "hub"
    folder.mkdir()
    content = checkpoint.read_bytes()
    (folder / "known.pth").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    known = released.Released(name="known", sha256=sha256, megabytes=len(content) / 1e6, top1=0.5)
    monkeypatch.setattr(released, "RELEASED", (known,))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder / "known.pth"
        server.shutdown()
        thread.join()


def test_fetch_downloads_verifies_and_prints_the_path(illama, hub, tmp_path):
    url, file = hub
    out = tmp_path / "down"
    out.mkdir()
    code, printed, err = illama("fetch", "known", "--out", out, "--url", url)
    assert (code, printed) == (0, f"{out / 'known.pth'}\n")
    assert (out / "known.pth").read_bytes() == file.read_bytes()
    assert f"{url}/known.pth" in err
    assert read_checkpoint(out / "known.pth").released == "known"


def test_fetch_takes_its_address_from_the_environment(illama, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("ILLAMA_HUB", f"{hub[0]}/")
    assert illama("fetch", "known.pth", "--out", tmp_path / "a.pth")[0] == 0


@pytest.mark.usefixtures("hub")
def test_fetch_prints_the_address_for_a_machine_without_network(illama, tmp_path):
    code, out, _ = illama("fetch", "known", "--address", "--out", tmp_path / "a.pth")
    assert code == 0
    assert out.startswith(f"{released.HUB}/known.pth\nsha256 ")
    assert not (tmp_path / "a.pth").exists()


def test_fetch_keeps_a_file_that_is_right_and_refuses_to_replace_another(illama, hub, tmp_path):
    url, file = hub
    path = tmp_path / "known.pth"
    path.write_bytes(file.read_bytes())
    file.unlink()
    assert illama("fetch", "known", "--out", path, "--url", url)[0] == 0
    path.write_bytes(b"precious")
    code, _, err = illama("fetch", "known", "--out", path, "--url", url)
    assert code == 3
    assert "--overwrite" in err
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-1] + b"x"), "sha256 is"),
        (lambda file: file.write_bytes(file.read_bytes()[:100]), "sha256 is"),
        (lambda file: file.write_bytes(file.read_bytes() * 2), "larger than the published"),
        (lambda file: file.unlink(), "HTTP Error 404"),
    ],
    ids=["changed", "cut", "longer", "gone"],
)
def test_fetch_leaves_nothing_behind_when_the_bytes_are_wrong(illama, hub, tmp_path, spoil, words):
    url, file = hub
    spoil(file)
    out = tmp_path / "down"
    out.mkdir()
    code, _, err = illama("fetch", "known", "--out", out, "--url", url)
    assert code == 3
    assert words in err.splitlines()[-1]
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("url", "words"),
    [("http://127.0.0.1:9", "download failed"), ("file:///etc", "not an http or https")],
)
@pytest.mark.usefixtures("hub")
def test_fetch_says_why_an_address_does_not_answer(illama, tmp_path, url, words):
    code, _, err = illama("fetch", "known", "--out", tmp_path / "a.pth", "--url", url)
    assert code == 3
    assert words in err


def test_fetch_lists_what_was_published(illama):
    code, _, err = illama("fetch", "illama-huge")
    assert code == 3
    assert "illama-tiny-in1k-75.0" in err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["inspect"], 2),
        (["inspect", "a", "b"], 2),
        (["melt"], 2),
        (["inspect", "a", "--soft-mask", "2"], 2),
        (["inspect", "a", "--masking", "some"], 2),
        (["inspect", "missing.pth"], 3),
        (["convert", "missing.pth", "out.pth"], 3),
        (["convert", GOLDEN, "out.bin"], 3),
    ],
)
def test_a_mistake_ends_in_one_line_and_its_code(illama, words, code):
    seen, out, err = illama(*words)
    assert (seen, out) == (code, "")
    assert err.startswith("illama: ")
    assert err.count("\n") == 1


def test_the_trace_is_shown_only_when_asked_for_anywhere_on_the_line(illama):
    assert "Traceback" not in illama("inspect", "missing.pth")[2]
    assert "Traceback" in illama("inspect", "missing.pth", "--traceback")[2]
    assert "Traceback" in illama("--traceback", "inspect", "missing.pth")[2]


def test_convert_keeps_class_names_and_stores_those_of_a_source_or_a_file(
    illama, checkpoint, tmp_path
):
    names = tmp_path / "classes.txt"
    names.write_text("cat\n\n polar bear \ndog\n")
    named, again = tmp_path / "named.safetensors", tmp_path / "again.pth"
    for words in ((checkpoint, named, "--classes", names), (named, again)):
        assert illama("convert", *words)[0] == 0
    described = [json.loads(illama("inspect", "--json", path)[1]) for path in (named, again)]
    assert [each["class_names"] for each in described] == [["cat", "polar bear", "dog"]] * 2
    assert described[0]["sha256"] == described[1]["sha256"]
    code, _, err = illama("convert", named, tmp_path / "x.pth", "--classes", "digits")
    assert (code, "10 class names" in err) == (3, True)
