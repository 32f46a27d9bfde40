"""Compiled networks: one graph, compiled once, also where FSDP shares the weights out."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from ddpm.config import ComputeConfig
from ddpm.errors import InputError
from ddpm.training.compute import Compute, blocks, check_compiler
from tests.ddpm.training.computing import (
    BOUNDS,
    CPU,
    Updates,
    adam,
    assert_close,
    flat,
    network,
    plain_updates,
    updates,
)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounterWithBackend]:
    """Counts graphs that torch.compile makes, without what turns them into machine code."""
    torch._dynamo.reset()
    counters.clear()
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    yield counter
    torch._dynamo.reset()


COMBINED = (
    ComputeConfig(compile=True),
    ComputeConfig(
        compile=True, precision="bfloat16", channels_last=True, checkpoint_activations=True
    ),
)


@pytest.mark.parametrize("config", COMBINED, ids=["alone", "with all else"])
def test_a_network_compiles_to_one_graph_once(
    counter: CompileCounterWithBackend, config: ComputeConfig
) -> None:
    compiled = updates(config, network(0.0, (1,)), count=3)
    assert counter.frame_count == 1
    assert not counters["graph_break"]
    first = Updates(compiled.losses[:2], compiled.gradients[:1], compiled.weights)
    plain = plain_updates(network(0.0, (1,)))
    assert_close(first, plain, *(BOUNDS["bfloat16"] if config.channels_last else (1e-5, 1e-5)))


# What torch imports to make machine code uses what torch has deprecated.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_compiled_updates_depend_on_their_seed_alone() -> None:
    def run() -> tuple[Tensor, Tensor]:
        torch._dynamo.reset()
        torch.default_generator.manual_seed(3)
        model = nn.Linear(4, 4)
        compute = Compute(ComputeConfig(compile=True), CPU)
        call = compute.compiled(compute.prepare(nn.Sequential(model, nn.Dropout(0.5))))
        loss = call(torch.ones(3, 4)).square().sum()
        compute.backward(loss)
        return loss.detach(), flat(p.grad for p in model.parameters() if p.grad is not None)

    first, second = run(), run()
    assert all(map(torch.equal, first, second))
    assert float(first[0]) > 0


def test_compilation_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(InputError, match=r"compile = True: allowed is False.*no no-such-compiler,"):
        Compute(ComputeConfig(compile=True), CPU)
    Compute(ComputeConfig(), CPU)
    check_compiler(torch.device("cuda"))
    monkeypatch.setattr("ddpm.training.compute.find_spec", lambda _name: None)
    with pytest.raises(InputError, match="allowed is False where there is no triton"):
        check_compiler(torch.device("cuda"))


class Block(nn.Module):
    """Two layers around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Linear(4, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.narrow(self.widen(x)))


class Blocks(nn.Module):
    """Blocks of different widths, and a layer outside them."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(4 + number) for number in range(count)])
        self.last = nn.Linear(4, 4)
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.last(x) * t.view(-1, 1)
        return out


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[DeviceMesh]:
    """A mesh of this process alone."""
    meeting = f"file://{tmp_path}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


# The compiler looks at what FSDP made of a block's input, and hides the warning that it gets.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize(("precision", "count"), [("float32", 10), ("float16", 2), ("float32", 0)])
def test_a_sharded_network_computes_the_same(
    one_rank: DeviceMesh, counter: CompileCounterWithBackend, precision: Any, count: int
) -> None:
    plain = Compute(ComputeConfig(precision=precision), CPU)
    config = ComputeConfig(precision=precision, compile=True, checkpoint_activations=True)
    gradients = []
    for compute, sharded in ((plain, False), (Compute(config, CPU), True)):
        model = compute.prepare(Blocks(count), sharded=sharded)
        for part in [*blocks(model), model] if sharded else []:
            fully_shard(part, mesh=one_rank, mp_policy=compute.fsdp_policy())
        call = compute.compiled(model)
        loss = call(torch.linspace(0, 1, 12).view(3, 4), torch.tensor([1, 2, 3])).square().mean()
        optimiser = adam(model)
        compute.backward(loss)
        compute.unscale(optimiser)
        gradients.append(flat(local(p.grad) for p in model.parameters() if p.grad is not None))
        compute.step(optimiser)
        assert all(p.dtype == torch.float32 for p in model.parameters())
    bound = 1e-6 if precision == "float32" else 2e-3
    torch.testing.assert_close(gradients[1], gradients[0], rtol=bound, atol=bound)
    assert counter.frame_count == max(count, 1)
    assert not counters["graph_break"]


def local(x: Tensor) -> Tensor:
    own: Tensor = x.to_local() if isinstance(x, DTensor) else x
    return own
