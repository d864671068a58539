"""Errors and exit codes of both commands: one line on stderr, and a code for scripts.

0 fine; 1 regression; 2 wrong command line; 3 input missing, refused or not comparable;
4 finished, but some images were unreadable; 5 internal; 130 and 143 interrupted.

`torchrun` ends with 1 and calls its processes failed whatever code but 0 they give. So a
finished run ends with 0 there instead of 4; stderr says so, and run.json counts the images.
"""

from __future__ import annotations

import atexit
import errno
import gc
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import ClassVar, NoReturn

import typer

from illama.suggestions import did_you_mean

TRACEBACK = "--traceback"
INTERNAL = 5
LONGEST = 2000
"""Most characters of an error's line; internal errors get a quarter."""
ALLOCATED = 50_000
"""Objects after which Python looks for cyclic garbage. Its 700 take a tenth of a small run, 5,000
a twentieth, most of it among the objects of imported modules, which are no garbage."""
CUT = " [...] "
_CHOICE = re.compile(r"'(?P<given>[^']*)' is not one of (?P<known>'.*')")
"""A message of typer on an option with choices."""


class InputError(ValueError):
    """What a command was given cannot be used; one line: what, where, what to do."""

    exit_code: ClassVar[int] = 3


class UsageError(InputError):
    """A command line with wrong or contradictory arguments; one line: what, where, what to do."""

    exit_code: ClassVar[int] = 2


def run(app: typer.Typer, program: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit with the codes above; a command may return its exit code.

    An error with an `exit_code`, such as CheckpointError or InputError, is the user's to fix: its
    text goes to stderr on one line. Any other is a bug, code 5. With `--traceback`, anywhere
    on the line, the trace is shown as well. SIGTERM raises SystemExit, so that `finally` runs.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    trace = TRACEBACK in words
    words = [word for word in words if word != TRACEBACK]
    signal.signal(signal.SIGTERM, _terminate)
    gc.set_threshold(ALLOCATED)
    atexit.register(gc.freeze)  # what is left goes with the process: no search for garbage
    try:
        result = app(words, prog_name=program, standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except BaseException as error:  # noqa: BLE001 - the end of the program: nothing may escape
        if trace:
            traceback.print_exception(error)
        code = _report(error, program)
    sys.exit(code)


def plain(text: object) -> str:
    """Return text on one line without control characters, which a terminal would act on."""
    return "".join(c if c.isprintable() else " " for c in str(text)).strip()


def _report(error: BaseException, program: str) -> int:
    """Print the error as one line on stderr; return the exit code."""
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return 128 + signal.SIGINT
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        return 128 + signal.SIGPIPE
    if isinstance(error, SystemExit) and not hasattr(error, "exit_code"):
        return error.code if isinstance(error.code, int) else 0
    code = getattr(error, "exit_code", InputError.exit_code)
    if hasattr(error, "format_message"):
        text = _with_hint(error.format_message())
    elif hasattr(error, "exit_code"):
        text = str(error)
    elif known := _from_the_system(error):
        text = known
    else:
        code = INTERNAL
        what = brief(f"{type(error).__name__}: {error}", LONGEST // 4)
        text = f"internal error: {what} ({TRACEBACK} shows where)"
    if text:
        sys.stderr.write(f"{program}: {brief(text, LONGEST)}\n")
    return int(code)


def _from_the_system(error: BaseException) -> str:
    """Return what the operating system says of a file or a full disk; empty for other errors."""
    if not isinstance(error, OSError):
        return ""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return f"{error.strerror}, where the output goes" if error.errno == errno.ENOSPC else ""


def _with_hint(text: str) -> str:
    """Return a message on an unknown choice with the choice that was probably meant."""
    match = _CHOICE.search(text)
    if match is None:
        return text
    text = text.replace("Value error, ", "").rstrip(".")
    return text + did_you_mean(match["given"], re.findall("'(.+?)'", match["known"]))


def brief(text: object, longest: int) -> str:
    """Return text on one line as `plain` does, the middle cut out where it is too long.

    A message begins with what is wrong and ends with what to do.
    """
    line = plain(text)
    if len(line) <= longest:
        return line
    tail = longest // 4
    return line[: longest - tail - len(CUT)] + CUT + line[-tail:]


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Turn SIGTERM into an exception."""
    del frame
    raise SystemExit(128 + number)
