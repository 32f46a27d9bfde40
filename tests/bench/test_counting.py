"""Launches, traffic and waits, against operations counted by hand."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ddpm.bench import counting
from ddpm.bench.counting import Counts, count
from ddpm.bench.inputs import Inputs
from ddpm.bench.peer_calls import (
    DIFFUSERS,
    LUCIDRAINS,
    diffusers_ddim,
    diffusers_ddpm,
    diffusers_dpm_solver,
    diffusers_loss,
    lucidrains_ddpm,
    lucidrains_hybrid,
    lucidrains_loss,
    missing,
)

# Peers warn of their own parts.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SHAPE = (8, 3, 16, 16)
N = 8 * 3 * 16 * 16


def counted(call: Callable[[], object]) -> Counts:
    return count(lambda: {"": torch.as_tensor(call() is None)}, N, 4)


def tensor() -> Tensor:
    return torch.linspace(-1, 1, N).view(SHAPE)


# Each with launches, traffic and small operations, as one counts them on paper.
COUNTED: dict[str, tuple[Callable[[Tensor], object], int, float, int]] = {
    "product with a scalar": (lambda x: x * 2.0, 1, 2, 0),
    "sum of two": (lambda x: x + x.flip(0), 2, 5, 0),
    "broadcast operand": (lambda x: x * torch.ones(8).view(8, 1, 1, 1), 1, 2, 1),
    "expanded operand": (lambda x: x * x[:1].expand(SHAPE), 1, 2, 0),
    "views": (lambda x: x.view(8, -1).transpose(0, 1)[1:].unsqueeze(0), 0, 0, 0),
    "in place": (lambda x: x.clone().mul_(2.0), 2, 4, 0),
    "clamping in place": (lambda x: x.clone().clamp_(-1, 1), 2, 4, 0),
    "copy": (lambda x: torch.empty(x.shape).copy_(x), 1, 2, 0),
    "noise like": (lambda x: torch.randn_like(x), 1, 1, 0),
    "filling": (lambda x: torch.empty(x.shape).fill_(1.0), 1, 1, 0),
    "putting side by side": (lambda x: torch.cat([x, x], 1), 1, 4, 0),
    "to half the bytes": (lambda x: x.bfloat16(), 1, 1.5, 0),
    "sum over everything": (lambda x: x.sum(), 1, 1, 0),
    "mean of squares": (lambda x: functional.mse_loss(x, x.flip(0)), 3, 6, 0),
    "squares alone": (lambda x: functional.mse_loss(x, x, reduction="none"), 1, 3, 0),
    "a row of it": (lambda x: x[0] * 2.0, 0, 0, 1),
    "rows of a table": (lambda x: x.view(-1, 2)[torch.tensor([1, 2])] + 1, 0, 0, 2),
    "all of it in another order": (lambda x: x[torch.arange(8)], 1, 2, 1),
    "an empty one": (lambda x: torch.empty_like(x), 0, 0, 0),
}


@pytest.mark.parametrize("name", COUNTED)
def test_operations_counted_by_hand(name: str) -> None:
    call, launches, traffic, small = COUNTED[name]
    x = tensor()
    found = counted(lambda: call(x))
    assert (found.launches, found.traffic) == (launches, traffic)
    assert found.small == small


def test_the_backward_pass_is_counted_too() -> None:
    x, target = tensor().requires_grad_(), tensor()
    found = counted(lambda: torch.autograd.grad(functional.mse_loss(x, target), x))
    # Forward two kernels and 4N; backward reads both and writes the gradient.
    assert (found.launches, found.traffic) == (3, 7)


def test_what_the_host_waits_for() -> None:
    x = tensor()
    assert counted(lambda: x.sum().item()).waits == 1
    assert counted(lambda: (x > 0).nonzero()).waits == 1
    assert counted(lambda: x * 2).waits == 0


def test_a_copy_to_the_host_is_a_wait() -> None:
    class Elsewhere:
        is_cuda = True

    class Here:
        is_cuda = False

    moved, stayed = [Elsewhere()], [Here()]
    assert counting._leaves_device(moved, stayed)  # type: ignore[arg-type]
    assert not counting._leaves_device(moved, moved)  # type: ignore[arg-type]
    assert not counting._leaves_device(stayed, stayed)  # type: ignore[arg-type]


@torch.library.custom_op("ddpm_bench_test::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return (x + x).clone()


def test_an_operation_of_several_is_one() -> None:
    x = tensor()
    found = counted(lambda: twice(x))
    assert (found.launches, found.traffic) == (1, 2)


INPUTS = Inputs((8, 3, 32, 32), torch.float32, torch.device("cpu"))


def leaf(channels: int) -> Tensor:
    return torch.zeros(8, channels, 32, 32, requires_grad=True)


def trained(scored: Callable[[], Tensor], output: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(scored(), output)


def of_diffusers(prediction: str) -> Callable[[], object]:
    output, scored = leaf(3), diffusers_loss(INPUTS, prediction)
    return trained(lambda: scored(output, INPUTS.noise)["loss"], output)


def of_lucidrains(prediction: str) -> Callable[[], object]:
    output = leaf(3)
    return trained(partial(lucidrains_loss(INPUTS, prediction, output), INPUTS.noise), output)


def hybrid() -> Callable[[], object]:
    output = leaf(6)
    return trained(partial(lucidrains_hybrid(INPUTS, output, 0.001), None), output)


# Kernels, traffic in N and waits of one call, read off the peers' own source. The simple losses are
# given their noise here; drawn, it is one kernel and 1 N more.
PEERS: dict[str, tuple[str, Callable[[], Callable[[], object]], int, float, int]] = {
    "diffusers, eps": (DIFFUSERS, lambda: of_diffusers("eps"), 6, 14, 0),
    "diffusers, v": (DIFFUSERS, lambda: of_diffusers("v"), 9, 21, 0),
    "lucidrains, eps": (LUCIDRAINS, lambda: of_lucidrains("eps"), 7, 16, 0),
    "lucidrains, v": (LUCIDRAINS, lambda: of_lucidrains("v"), 10, 23, 0),
    "lucidrains, hybrid": (LUCIDRAINS, hybrid, 134, 307.5, 0),
    "diffusers, DDPM": (DIFFUSERS, lambda: diffusers_ddpm(INPUTS), 10, 22, 13),
    "diffusers, DDIM": (DIFFUSERS, lambda: partial(diffusers_ddim(INPUTS), INPUTS.pred), 7, 16, 6),
    "diffusers, 2M": (DIFFUSERS, lambda: diffusers_dpm_solver(INPUTS), 10, 24, 0),
    "lucidrains, DDPM": (LUCIDRAINS, lambda: lucidrains_ddpm(INPUTS), 10, 22, 0),
}


@pytest.mark.parametrize("name", PEERS)
def test_the_peers_cost_what_their_source_says(name: str) -> None:
    peer, make, launches, traffic, waits = PEERS[name]
    if reason := missing(peer):
        pytest.skip(reason)
    call = make()
    for name in ("x0", "noise", "x", "pred", "history"):
        getattr(INPUTS, name)
    found = count(lambda: {"": torch.as_tensor(call() is None)}, 8 * 3 * 32 * 32, 4)
    assert (found.launches, found.traffic, found.waits) == (launches, traffic, waits)
