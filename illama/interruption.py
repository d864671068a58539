"""Signals: SIGTERM and SIGINT are noted, so that a loop stops where all can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """Whether this process received a signal to stop."""

    signal: int | None = None

    @property
    def code(self) -> int:
        """The exit code of a process that was stopped by the signal."""
        return 128 + (self.signal or signal.SIGTERM)


@contextmanager
def deferring() -> Iterator[StopRequest]:
    """Yield a request that SIGTERM and SIGINT fill in; a second signal acts as it did before."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        request.signal = number
        for each, handler in previous.items():
            signal.signal(each, handler)

    for number in previous:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def default_handlers() -> Iterator[None]:
    """Let SIGTERM and SIGINT end the process at once.

    A handler in Python does not run while a library waits inside a call.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {
        number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Interrupted(SystemExit):
    """The run was stopped by a signal; what it had measured is saved.

    A SystemExit, because command-line libraries replace a KeyboardInterrupt by their own exit.
    """

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(self.exit_code)
        self.signal = number

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.signal).name}; what was measured is saved"
