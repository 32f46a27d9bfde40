from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from ddpm.models.blocks import zeroed
from ddpm.models.initialise import build
from ddpm.models.unet import UNet, UNetConfig
from ddpm.verify.strategies import seeds

SMALL = UNetConfig(channels=8, multipliers=(1, 2), blocks=1, attention=(1,))


def make() -> nn.Module:
    return UNet(SMALL)


def weights(seed: int) -> dict[str, Tensor]:
    return build(make, seed, "cpu").state_dict()


@settings(max_examples=10)
@given(seeds(), st.integers(0, 2**32))
def test_weights_are_a_function_of_the_seed(seed: int, state: int) -> None:
    first = weights(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        second = weights(seed)
        assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(value.dtype == torch.float32 for value in first.values())


def built(*layers: Callable[[], nn.Module], seed: int) -> nn.Sequential:
    model = build(lambda: nn.Sequential(*(layer() for layer in layers)), seed, "cpu")
    assert isinstance(model, nn.Sequential)
    return model


def test_another_seed_gives_other_weights() -> None:
    first, second = weights(1), weights(2)
    drawn = [name for name, value in first.items() if value.dim() > 1 and bool(value.any())]
    assert len(drawn) > 10
    assert not any(torch.equal(first[name], second[name]) for name in drawn)


def test_no_two_parameters_share_their_numbers() -> None:
    model = built(*[lambda: nn.Linear(4, 4)] * 2, seed=1)
    first, second = (value for value in model.parameters() if value.dim() > 1)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (lambda: nn.Linear(300, 100), 300),
        (lambda: nn.Conv2d(40, 80, 3), 40 * 9),
        (lambda: nn.Conv2d(120, 200, 1), 120),
    ],
)
def test_weights_are_normal_with_variance_a_third_of_one_over_fan_in(
    layer: Callable[[], nn.Module], fan_in: int
) -> None:
    weight = next(built(layer, seed=5).parameters()).detach().flatten()
    n = len(weight)
    # Five standard deviations of the mean and of the variance of n normal numbers.
    assert abs(float(weight.mean())) < 5 * (1 / (3 * fan_in) / n) ** 0.5
    assert abs(float(weight.var()) * 3 * fan_in - 1) < 5 * (2 / n) ** 0.5
    assert stats.kstest(weight.numpy() * (3 * fan_in) ** 0.5, "norm").pvalue > 1e-4


def test_biases_scales_and_marked_layers() -> None:
    model = built(
        lambda: nn.Conv2d(2, 4, 3),
        lambda: nn.GroupNorm(2, 4),
        lambda: zeroed(nn.Conv2d(4, 4, 1)),
        lambda: nn.Linear(4, 2),
        seed=3,
    )
    values = dict(model.named_parameters())
    assert values["0.weight"].ne(0).all()
    assert values["0.bias"].eq(0).all()
    assert values["1.weight"].eq(1).all()
    assert values["1.bias"].eq(0).all()
    assert values["2.weight"].eq(0).all()
    assert values["2.bias"].eq(0).all()
    assert values["3.weight"].ne(0).all()


def test_every_parameter_is_written() -> None:
    model = build(make, 11, "cpu")
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
