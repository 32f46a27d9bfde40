"""Averages of the weights: plain tensors, or the shards of one rank."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from ddpm.errors import InputError
from ddpm.training.ema import Ema, ema_decay
from ddpm.verify.strategies import Array, generators


@given(st.integers(0, 10**9), st.floats(0, 1, exclude_max=True))
def test_decay_rises_to_its_limit(updates: int, limit: float) -> None:
    decay = ema_decay(updates, limit)
    assert decay == min(limit, (1 + updates) / (10 + updates))
    assert ema_decay(updates + 1, limit) >= decay
    assert ema_decay(10**15, limit) == pytest.approx(limit, abs=1e-14)


def test_golden_decays() -> None:
    assert ema_decay(0, 0.999) == 0.1
    assert ema_decay(8, 0.999) == 0.5
    assert ema_decay(9000, 0.999) == 0.999


class Counted(nn.Module):
    """A matrix, a vector, a buffer that is averaged like them, and a number that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(4))
        self.times: Tensor
        self.register_buffer("times", torch.tensor(0))
        self.forgotten: Tensor
        self.register_buffer("forgotten", torch.zeros(2), persistent=False)


def move(model: nn.Module, rng: np.random.Generator) -> list[Array]:
    """Set new weights as an optimiser would, and return them in float64."""
    values = [rng.normal(size=p.shape) for p in model.state_dict().values()]
    with torch.no_grad():
        for tensor, value in zip(model.state_dict().values(), values, strict=True):
            tensor.copy_(torch.tensor(100 * value if tensor.dim() == 0 else value))
    return values


def decays(average: Ema, model: nn.Module, updates: int) -> list[float]:
    found = []
    for _ in range(updates):
        average.update(model)
        found.append(average.current_decay)
    return found


def test_the_decay_of_the_curves_is_that_of_the_last_update() -> None:
    model = Counted()
    average = Ema(model, 0.3)
    assert average.current_decay == 0
    assert decays(average, model, 5) == [0, 2 / 11, 3 / 12, 0.3, 0.3]
    assert average.updates == 5


def test_integers_are_copied() -> None:
    model = nn.BatchNorm1d(2)
    average = Ema(model, 0.9)
    for count in (1, 2, 3):
        model(torch.ones(4, 2))
        average.update(model)
        assert int(average.tensors()["num_batches_tracked"]) == count


@settings(max_examples=30)
@given(generators(), st.integers(1, 30), st.sampled_from([0.0, 0.5, 0.9, 0.999]))
def test_average_against_a_plain_loop(rng: np.random.Generator, updates: int, limit: float) -> None:
    model = Counted()
    start = move(model, rng)
    average = Ema(model, limit)
    want = start
    for n in range(updates):
        new = move(model, rng)
        average.update(model)
        # The first update takes over the weights that it is given as they are.
        decay = min(limit, (1 + n) / (10 + n)) if n else 0.0
        want = [decay * old + (1 - decay) * value for old, value in zip(want, new, strict=True)]
    got = average.tensors()
    assert (
        list(got) == list(model.state_dict()) == ["seen", "times", "linear.weight", "linear.bias"]
    )
    assert torch.equal(got.pop("times"), model.times)
    del want[1]
    for tensor, value in zip(got.values(), want, strict=True):
        # Thirty float32 updates of numbers of size 3, each rounded a few times.
        np.testing.assert_allclose(tensor.numpy(), value, rtol=1e-5, atol=1e-5)


def test_the_average_is_a_copy_that_is_not_trained() -> None:
    model = Counted()
    average = Ema(model, 0.9)
    kept = average.tensors()["linear.weight"]
    before = kept.clone()
    with torch.no_grad():
        model.linear.weight.add_(1)
    assert torch.equal(kept, before)
    assert not any(x.requires_grad for x in average.tensors().values())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_loaded_average_goes_on_bit_for_bit_whatever_its_layout() -> None:
    """What a file gives back is contiguous; the weights may have their channels last."""
    rng = np.random.default_rng(0)
    model = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    whole, first = Ema(model, 0.9), Ema(model, 0.9)
    for _ in range(3):
        move(model, rng)
        whole.update(model)
        first.update(model)
    resumed = Ema(model, 0.9)
    resumed.load({name: x.contiguous() for name, x in first.tensors().items()})
    resumed.updates = first.updates
    for _ in range(3):
        move(model, rng)
        whole.update(model)
        resumed.update(model)
    for name, x in whole.tensors().items():
        assert torch.equal(resumed.tensors()[name], x)
        assert resumed.tensors()[name].stride() == model.state_dict()[name].stride()


def test_a_network_takes_over_the_average() -> None:
    model, other = Counted(), Counted()
    average = Ema(model, 0.9)
    average.copy_to(other)
    for name, x in other.state_dict().items():
        assert torch.equal(x, model.state_dict()[name])
    with torch.no_grad():
        other.linear.weight.add_(1)
    assert torch.equal(average.tensors()["linear.weight"], model.linear.weight)


def test_averages_of_another_network_are_refused() -> None:
    average = Ema(Counted(), 0.9)
    kept = {name: x.clone() for name, x in average.tensors().items()}
    good = {name: x + 1 for name, x in kept.items()}
    bad: list[tuple[dict[str, Tensor], str]] = [
        ({n: x for n, x in good.items() if n != "linear.bias"}, r"ema: tensor .?linear.bias"),
        ({**good, "more": torch.zeros(1)}, "tensor .?more"),
        ({**good, "seen": torch.zeros(5)}, r"seen.? is torch.float32 \[5\]: allowed is .* \[4\]"),
        ({**good, "times": torch.zeros(())}, r"times.? is torch.float32 \[\]: allowed is .*int64"),
    ]
    for tensors, message in bad:
        with pytest.raises(InputError, match=message):
            average.load(tensors)
    assert all(torch.equal(x, kept[name]) for name, x in average.tensors().items())
    with pytest.raises(InputError, match="tensor"):
        average.copy_to(nn.Linear(3, 5))


@pytest.fixture
def last_of_three() -> Iterator[None]:
    """Be the last of three ranks of which the others do not exist: communication does nothing.

    One rank for all tests, because torch keeps the place of a mesh beyond its group.
    """
    dist.init_process_group("fake", store=FakeStore(), rank=2, world_size=3)
    yield
    dist.destroy_process_group()


def sharded(model: nn.Module) -> nn.Module:
    """The model with this rank's part of the rows of every parameter, made without others."""
    mesh = init_device_mesh("cpu", (3,))
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            part = distribute_tensor(parameter.detach(), mesh, [Shard(0)], src_data_rank=None)
            module.register_parameter(name, nn.Parameter(part))
    return model


def shard_of(whole: Tensor, x: Tensor) -> Tensor:
    """What the last rank holds of a tensor: of five rows the fifth."""
    return whole[4:] if isinstance(x, DTensor) else whole


def local(x: Tensor) -> Tensor:
    own: Tensor = x.to_local() if isinstance(x, DTensor) else x
    return own


def assert_shards(mine: Ema, whole: Ema) -> None:
    assert [n for n, x in mine.tensors().items() if isinstance(x, DTensor)] == [
        "linear.weight", "linear.bias",
    ]  # fmt: skip
    for name, x in mine.tensors().items():
        want = whole.tensors()[name]
        assert x.shape == want.shape
        assert torch.equal(local(x), shard_of(want, x))


@pytest.mark.usefixtures("last_of_three")
def test_a_rank_averages_its_shards_alone() -> None:
    rng = np.random.default_rng(1)
    plain, model = Counted(), Counted()
    move(plain, rng)
    average = Ema(plain, 0.9)
    model.load_state_dict(plain.state_dict())
    mine = Ema(sharded(model), 0.9)
    for _ in range(4):
        move(plain, rng)
        average.update(plain)
        for name, x in model.state_dict().items():
            local(x).copy_(shard_of(plain.state_dict()[name], x))
        mine.update(model)
    assert_shards(mine, average)
    for source in (average, mine):
        loaded = Ema(model, 0.9)
        loaded.load(source.tensors())
        assert_shards(loaded, average)
    average.copy_to(model)
    assert_shards(Ema(model, 0.9), average)
