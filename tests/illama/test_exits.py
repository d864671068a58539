from __future__ import annotations

import errno
import signal
import subprocess
import sys

import pytest
import typer

from illama import exits
from illama.interruption import Interrupted


@pytest.mark.parametrize("kind", [RuntimeError, exits.InputError])
def test_an_oversized_error_is_cut_and_keeps_its_beginning_and_end(capsys, kind):
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise kind("what is wrong\n" + "generated code\n" * 5_000 + "what to do")

    with pytest.raises(SystemExit):
        exits.run(app, "illama", [])
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert len(err) < 2_100
    assert "what is wrong" in err
    assert "what to do" in err
    assert (exits.TRACEBACK in err) == (kind is RuntimeError)


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (RuntimeError("first\nsecond"), 5, "internal error: RuntimeError: first second"),
        (exits.InputError("x: missing"), 3, "x: missing"),
        (FileNotFoundError(2, "No such file", "x"), 3, "x: No such file"),
        (OSError("no name"), 5, "internal error"),
        (OSError(errno.ENOSPC, "No space"), 3, "No space, where the output goes"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(143), 143, ""),
        (Interrupted(signal.SIGTERM), 143, "interrupted by SIGTERM; what was measured is saved"),
        (Interrupted(signal.SIGINT), 130, "interrupted by SIGINT"),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
        (typer.Exit(4), 4, ""),
    ],
    ids=repr,
)
def test_every_end_has_its_code(capsys, raised, code, words):
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise raised

    with pytest.raises(SystemExit) as ended:
        exits.run(app, "illama", [])
    err = capsys.readouterr().err
    assert ended.value.code == code
    assert words in err
    assert err.count("\n") <= 1


def test_a_command_may_return_its_code():
    app = typer.Typer()

    @app.command()
    def partly() -> int:
        return 4

    with pytest.raises(SystemExit) as ended:
        exits.run(app, "illama", [])
    assert ended.value.code == 4


def test_being_asked_to_end_runs_what_must_run_last(tmp_path):
    code = (
        "import signal, time, typer\nfrom pathlib import Path\nfrom illama import exits\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def wait(out: Path):\n"
        "    try:\n        print('ready', flush=True); time.sleep(300)\n"
        "    finally:\n        out.write_text('saved')\n"
        "exits.run(app, 'illama')\n"
    )
    for number, expected in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        out = tmp_path / str(expected)
        words = [sys.executable, "-c", code, str(out)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            assert process.wait(120) == expected
        assert out.read_text() == "saved"
