import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ddpm.ema import Ema, ema_decay
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
    """A matrix, a vector, and a buffer that is averaged like them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.seen: torch.Tensor
        self.register_buffer("seen", torch.zeros(4))


def test_integer_buffers_are_copied() -> None:
    model = nn.BatchNorm1d(2)
    average = Ema(model, 0.9)
    for _ in range(3):
        model(torch.ones(4, 2))
        average.update_parameters(model)
    assert model.num_batches_tracked is not None
    assert (
        int(average.module.get_buffer("num_batches_tracked")) == int(model.num_batches_tracked) == 3
    )


def move(model: nn.Module, rng: np.random.Generator) -> list[Array]:
    """Set new weights as an optimiser would, and return them in float64."""
    values = [rng.normal(size=p.shape) for p in model.state_dict().values()]
    with torch.no_grad():
        for tensor, value in zip(model.state_dict().values(), values, strict=True):
            tensor.copy_(torch.tensor(value))
    return values


@settings(max_examples=30)
@given(generators(), st.integers(1, 30), st.sampled_from([0.0, 0.5, 0.9, 0.999]))
def test_average_against_a_plain_loop(rng: np.random.Generator, updates: int, limit: float) -> None:
    model = Counted()
    start = move(model, rng)
    average = Ema(model, limit)
    want = start
    for n in range(updates):
        new = move(model, rng)
        average.update_parameters(model)
        # torch's average takes over the first weights that it is given as they are.
        decay = min(limit, (1 + n) / (10 + n)) if n else 0.0
        want = [decay * old + (1 - decay) * value for old, value in zip(want, new, strict=True)]
    got = average.module.state_dict().values()
    for tensor, value in zip(got, want, strict=True):
        # Thirty float32 updates of numbers of size 3, each rounded a few times.
        np.testing.assert_allclose(tensor.numpy(), value, rtol=1e-5, atol=1e-5)


def test_the_average_is_a_copy_that_is_not_trained() -> None:
    model = Counted()
    average = Ema(model, 0.9)
    kept = dict(average.module.named_parameters())["linear.weight"]
    before = kept.clone()
    with torch.no_grad():
        model.linear.weight.add_(1)
    assert torch.equal(kept, before)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
