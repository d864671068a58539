"""What the variables of `torchrun` say of a process, and how many cores are its own."""

from __future__ import annotations

import os

import pytest

from illama.exits import InputError
from illama.launch import TORCHRUN, Launch, is_by_torchrun, launched, own_cores


@pytest.fixture
def torchrun(monkeypatch):
    """Set all variables of torchrun, for the last of four processes on two machines of 6 cores."""
    given = (3, 4, 1, "127.0.0.1", 29500, "run")
    for name, value in zip(TORCHRUN, given, strict=True):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    return monkeypatch


def test_all_variables_say_which_of_how_many_this_is(torchrun):
    assert is_by_torchrun()
    assert launched() == Launch(rank=3, size=4, local_rank=1)


def test_no_variables_mean_one_process_and_get_no_note(torchrun, capsys):
    for name in TORCHRUN[:3]:
        torchrun.delenv(name)
    assert launched() == Launch()
    assert capsys.readouterr().err == ""


def test_a_variable_that_is_no_number_is_named(torchrun):
    torchrun.setenv("WORLD_SIZE", "two")
    with pytest.raises(InputError, match=r"RANK, WORLD_SIZE, LOCAL_RANK: .*'two'; unset them"):
        launched()


def test_processes_on_one_machine_share_its_cores(torchrun):
    assert own_cores() == 3
    torchrun.setenv("LOCAL_WORLD_SIZE", "16")
    assert own_cores() == 1


def test_a_variable_that_is_left_over_takes_no_core_away(torchrun):
    torchrun.delenv("RANK")
    assert own_cores() == 6


def test_a_system_that_binds_no_process_gives_all_cores(torchrun):
    torchrun.delattr(os, "sched_getaffinity")
    torchrun.setattr(os, "cpu_count", lambda: 8)
    assert own_cores() == 4
