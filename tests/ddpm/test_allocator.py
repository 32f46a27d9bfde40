"""Freed memory stays with the process: the page faults of arrays that are taken again and again."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ddpm.allocator import SETTINGS, keep_memory

GLIBC = platform.libc_ver()[0] == "glibc"

PAGES = 48 * 2**20 // os.sysconf("SC_PAGE_SIZE") if GLIBC else 0
"""Of the array below, which is larger than what glibc ever learns to keep by itself."""

COUNT = """
import resource

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(3, 4 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(sorted(faults() for _ in range(41))[20])
"""
"""The median, since what else is allocated can lie in the way at first."""

KEEP = """
from ddpm.allocator import keep_memory
keep_memory(torch.device("cpu"))
"""

SAMPLE = """
from ddpm import GaussianDiffusion, Schedule
GaussianDiffusion(Schedule.linear(10), "eps").ddim_sample_loop(lambda x, t: x, (1, 1, 2, 2), seed=0)
"""

TRAIN = """
from ddpm.training.compute import Compute
from ddpm.config import ComputeConfig
Compute(ComputeConfig(), torch.device("cpu"))
"""


def faults_after(preparation: str, **settings: str) -> float:
    """Pages that the system hands out for each array, in a new process."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in (*SETTINGS, "GLIBC_TUNABLES", "LD_PRELOAD")
    }
    found = subprocess.run(
        [sys.executable, "-c", f"import torch\ntorch.set_num_threads(1)\n{preparation}{COUNT}"],
        env={**inherited, **settings}, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return float(found.stdout.splitlines()[-1])


@pytest.mark.skipif(not GLIBC, reason="the C library is another")
@pytest.mark.parametrize(
    "preparation", [KEEP, SAMPLE, TRAIN], ids=["itself", "sampling", "training"]
)
def test_what_is_freed_is_used_again(preparation: str) -> None:
    assert faults_after(preparation) < 0.02 * PAGES


@pytest.mark.skipif(not GLIBC, reason="the C library is another")
def test_otherwise_every_array_would_be_fetched_anew() -> None:
    assert faults_after("") > 0.9 * PAGES or huge_pages()


@pytest.mark.skipif(not GLIBC, reason="the C library is another")
@pytest.mark.parametrize(
    "setting",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"MALLOC_MMAP_MAX_": "65536"},
        {"MALLOC_MMAP_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_a_setting_of_the_user_stands(setting: dict[str, str]) -> None:
    assert faults_after(KEEP, **setting) > 0.9 * PAGES or huge_pages()


def test_only_the_processor_is_concerned() -> None:
    assert not keep_memory(torch.device("meta"))


def huge_pages() -> bool:
    """Whether one fault may bring many pages at once."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return setting.exists() and "[always]" in setting.read_text()
