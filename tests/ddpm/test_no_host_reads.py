"""No op, loss or sampler waits for the device: the proof that a loop can be a CUDA graph."""

# The tests of an op call torch functions that have no types.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.schedule import Schedule
from tests.devices import graph
from tests.devices.pretend import GPU, HostReadError, pretend_gpu
from tests.kernels.operations import CASES, IDS, Variant, arguments, differentiable, public, results

BATCH = 2
SCHEDULE = Schedule.log_snr_linear(20)


def on_gpu(value: Any) -> Any:
    return value.to(GPU) if isinstance(value, Tensor) else value


X, ONE, INDEX = (torch.zeros(size, device=GPU) for size in ((3, 5), (), (3,)))
INDEX = INDEX.long()

READS: dict[str, Callable[[], object]] = {
    "item": lambda: ONE.item(),
    "int": lambda: int(ONE),
    "truth": lambda: "more" if ONE > 0 else "less",
    "any": lambda: bool(X.isnan().any()),
    "equal": lambda: torch.equal(X, X),
    "allclose": lambda: torch.allclose(X, X),
    "nonzero": lambda: X.nonzero(),
    "where": lambda: torch.where(X > 0),
    "mask": lambda: X[X > 0],
    "unique": lambda: X.unique(),
    "repeat_interleave": lambda: X.repeat_interleave(INDEX, 0),
    "list index": lambda: [1, 2, 3][INDEX[0]],
    "tensor index": lambda: X[INDEX[0]],
    "slice": lambda: X[: INDEX[0]],
    "tolist": lambda: X.tolist(),
    "cpu": lambda: X.cpu(),
    "copy to the host": lambda: torch.zeros(3, 5).copy_(X),
    "copy to the device": lambda: torch.zeros(3, 5).to(GPU),
    "numbers": lambda: torch.tensor([1, 2], device=GPU),
    "a number of the host": lambda: X * torch.tensor(2.0),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_wait_is_noticed(read: Callable[[], object]) -> None:
    with pretend_gpu(), pytest.raises((HostReadError, NotImplementedError)):
        read()


def test_what_stays_on_the_device_passes() -> None:
    with pretend_gpu() as launched:
        table = torch.arange(3, device=GPU)[INDEX]
        torch.full((), 2.0, device=GPU) * X.masked_fill(X > 0, 1.0).sum() + table.expand(3)
        assert [row.shape for row in table] == [()] * 3
    assert launched == []


@pytest.mark.parametrize(("op", "chosen"), CASES, ids=IDS)
def test_an_op_is_one_launch_without_a_wait(op: str, chosen: Variant) -> None:
    made = {name: on_gpu(value) for name, value in arguments(op, chosen).items()}
    with pretend_gpu() as launched:
        outputs = results(public(op)(**made))
        assert len(launched) == 1
        assert {output.device for output in outputs} == {GPU}
        leaves = [made[name] for name in differentiable(op, chosen)]
        if leaves:
            for leaf in leaves:
                leaf.requires_grad_()
            sum(output.float().sum() for output in results(public(op)(**made))).backward()  # type: ignore[union-attr]
            assert all(leaf.grad.shape == leaf.shape for leaf in leaves)


SIDES = (8, 128)
"""A sample that is one program of a kernel, and one that is many."""
DIFFUSIONS = {
    "simple": GaussianDiffusion(SCHEDULE, "v"),
    "weighted": GaussianDiffusion(SCHEDULE, "eps", weighting="min_snr"),
    "hybrid": GaussianDiffusion(SCHEDULE, "eps", "learned"),
    "bound": GaussianDiffusion(SCHEDULE, "x0", "learned_sigmoid", objective="vlb"),
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", DIFFUSIONS)
def test_a_training_step_is_three_launches_without_a_wait(name: str, side: int) -> None:
    diffusion = DIFFUSIONS[name]
    x0 = torch.zeros(BATCH, 3, side, side, device=GPU)
    t = torch.ones(BATCH, dtype=torch.int64, device=GPU)
    model = nn.Conv2d(3, 3 if diffusion.learned == "none" else 6, 1).to(GPU)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    # Copied to the device before the first step.
    diffusion.tables(GPU)
    key = Key.of(3, range(BATCH), 4, GPU)
    with pretend_gpu() as launched:
        losses = diffusion.training_losses(lambda x, _: model(x), x0, t, key=key)
        losses.mean().backward()
        optimiser.step()
    assert len(launched) == 3
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("name", graph.SAMPLERS)
def test_a_sampling_loop_is_a_launch_a_step_without_a_wait(name: str, guided: bool) -> None:
    table, options = graph.SAMPLERS[name]
    loop = graph.sampler(name, GPU, guided)
    x = torch.zeros(graph.SHAPE, device=GPU)
    seed, sample = (torch.zeros(n, dtype=torch.int64, device=GPU) for n in ((), len(x)))
    with pretend_gpu() as launched:
        out = loop(x, sample.float(), seed, sample)
    assert out.shape == x.shape
    assert out.device == GPU
    each = 2 if "threshold_ratio" in options else 1
    assert len(launched) == each * len(table.levels)
