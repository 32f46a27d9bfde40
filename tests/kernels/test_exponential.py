"""The exponential made of multiplications and additions against float64, and Triton against it."""

# Kernels in triton are called without types of their own.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import numpy as np
import torch
import triton
import triton.language as tl

from ddpm.kernels.exponential import HIGHEST, LOWEST, exponential
from ddpm.kernels.gpu.exponential import exponential as device_exponential
from tests.kernels.batches import assert_same, exact


@triton.jit
def _copy_exponential(out_ptr, x_ptr, BLOCK: tl.constexpr):
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + lane, device_exponential(tl.load(x_ptr + lane)))


def test_two_units_in_the_last_place() -> None:
    x = torch.cat([torch.linspace(LOWEST, HIGHEST, 2**18), torch.linspace(-1, 1, 2**18)])
    error = exact(exponential(x)) / np.exp(exact(x)) - 1
    assert np.abs(error).max() < 1.2e-7


def test_triton_is_torch() -> None:
    x = torch.cat([torch.linspace(-100, 100, 2048), torch.linspace(-2, 2, 2048)])
    out = torch.full_like(x, torch.nan)
    _copy_exponential[(4,)](out, x, BLOCK=1024)
    assert_same(out, exponential(x))


def test_ends() -> None:
    x = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e30])
    got = exponential(x)
    assert torch.equal(got[:2], torch.ones(2))
    assert got[2] == got[5] == exponential(torch.tensor([HIGHEST]))
    assert got[3] == exponential(torch.tensor([LOWEST]))
    assert got[4].isnan()
    assert torch.equal(x[:4], torch.tensor([0.0, -0.0, torch.inf, -torch.inf]))
