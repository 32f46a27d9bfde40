"""How many threads a command takes where nobody says it."""

import os

import pytest

from ddpm.commands.runtime import SMALL_WORK, choose_threads


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


def test_small_layers_take_one_and_large_ones_all_cores() -> None:
    assert choose_threads(SMALL_WORK - 1) == 1
    assert choose_threads(SMALL_WORK) == 8


@pytest.mark.parametrize(
    ("said", "threads"), [("1", 1), ("3", 3), ("12", 12), ("2,4", 2), ("", 8), ("0", 8), ("a", 8)]
)
def test_the_usual_variable_is_heard(
    monkeypatch: pytest.MonkeyPatch, said: str, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert choose_threads(SMALL_WORK) == threads
    assert choose_threads(SMALL_WORK - 1) == 1


@pytest.mark.parametrize(
    ("processes", "threads"), [("1", 8), ("3", 2), ("8", 1), ("20", 1), ("0", 8), ("many", 8)]
)
def test_processes_of_one_job_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, processes: str, threads: int
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert choose_threads(SMALL_WORK) == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert choose_threads(SMALL_WORK) == 5
