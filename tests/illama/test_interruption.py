from __future__ import annotations

import os
import signal
import threading

import pytest

from illama.interruption import Interrupted, deferring


@pytest.fixture
def received():
    """Return the list of signals that this process was sent and did not defer."""
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    yield seen
    signal.signal(signal.SIGTERM, before)


def test_a_signal_is_noted_and_a_second_acts_as_it_did_before(received):
    with deferring() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.signal, stop.code, received) == (signal.SIGTERM, 143, [])
        os.kill(os.getpid(), signal.SIGTERM)
    assert received == [signal.SIGTERM]


def test_handlers_are_given_back(received):
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with deferring():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_thread_defers_nothing_and_fails_nothing():
    noted = []

    def work():
        with deferring() as stop:
            noted.append(stop.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert noted == [None]


def test_an_interruption_has_the_code_of_its_signal():
    stopped = Interrupted(signal.SIGINT)
    assert (stopped.exit_code, stopped.code) == (130, 130)
    assert str(stopped) == "interrupted by SIGINT; what was measured is saved"
