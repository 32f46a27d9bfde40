"""Every operation beside torch, torch.compile, NumPy and the peers, under pytest-benchmark.

The workloads are those of `ddpm bench`, which interleaves the contenders and so compares them more
closely; this is for the statistics and the saved runs of pytest-benchmark.
"""

from typing import Any

import pytest
import torch

from benchmarks.devices import DEVICES, synchronised
from ddpm.bench.assemble import COMPILED, EAGER, NUMPY, OURS
from ddpm.bench.contender import Absent, judge
from ddpm.bench.formulas import compiler_fault
from ddpm.bench.peer_calls import DIFFUSERS, LUCIDRAINS
from ddpm.bench.targets import RANDN
from ddpm.bench.workloads import Case, cases

# Compilers and peers warn of their own parts.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CONTENDERS = (OURS, EAGER, COMPILED, DIFFUSERS, LUCIDRAINS, RANDN, NUMPY)


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize(
    ("device", "build"),
    [
        pytest.param(device, case, id=f"{name} on {device}")
        for device in DEVICES
        for name, case in cases(torch.device(device))
    ],
)
def test_operation(benchmark: Any, device: str, build: Case, contender: str) -> None:
    workload = build()
    everybody = {rival.name: rival for rival in (workload.ours, *workload.rivals)}
    if contender not in everybody:
        pytest.skip("has no such operation")
    rival = everybody[contender]
    if isinstance(rival, Absent):
        pytest.skip(rival.reason)
    if contender == COMPILED and (fault := compiler_fault()):
        pytest.skip(fault)
    assert judge(rival, workload.ours.result()) <= 1
    benchmark.group = f"{workload.op} {workload.shape} {workload.dtype} {device}"
    benchmark(synchronised(rival.call, device))
