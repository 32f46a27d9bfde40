from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.models.initialise import build
from ddpm.models.unet import UNet, UNetConfig

T = torch.tensor([1, 500])


@st.composite
def configs(draw: st.DrawFn) -> UNetConfig:
    multipliers = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    indices = st.sets(st.integers(0, len(multipliers) - 1))
    return UNetConfig(
        image_channels=draw(st.sampled_from([1, 3])),
        channels=draw(st.sampled_from([2, 4, 6])),
        multipliers=multipliers,
        blocks=draw(st.integers(1, 2)),
        attention=tuple(sorted(draw(indices))),
        dropout=draw(st.sampled_from([0.0, 0.3])),
    )


def awake(config: UNetConfig, seed: int = 1) -> UNet:
    """A network whose zeroed branches hold numbers, so that nothing in it is idle."""
    model = build(lambda: UNet(config), seed, "cpu").eval()
    assert isinstance(model, UNet)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=15)
@given(configs(), st.integers(1, 13), st.integers(1, 13))
def test_output_is_shaped_like_the_input(config: UNetConfig, height: int, width: int) -> None:
    x = images(2, config.image_channels, height, width)
    with torch.no_grad():
        start = build(lambda: UNet(config), 3, "cpu").eval()(x, T)
        out = awake(config)(x, T)
    assert start.shape == out.shape == x.shape
    assert start.eq(0).all()
    assert out.isfinite().all()
    assert out.ne(0).any()


CONFIG = UNetConfig(
    image_channels=3, channels=8, multipliers=(1, 2, 2), blocks=1, attention=(1,), dropout=0.5
)


def test_a_sample_does_not_see_the_rest_of_the_batch() -> None:
    model, x, t = awake(CONFIG), images(4, 3, 8, 8), torch.tensor([1, 10, 100, 1000])
    other, levels = images(4, 3, 8, 8, seed=1), torch.tensor([9, 10, 9, 9])
    other[1] = x[1]
    with torch.no_grad():
        together, alone = model(x, t), model(x[1:2], t[1:2])
        among_others = model(other, levels)
    assert torch.equal(together[1], among_others[1])
    # Convolutions choose their order of summation by the size of the batch.
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)


def test_level_input_and_every_parameter_tell() -> None:
    model, x = awake(CONFIG), images(2, 3, 8, 8)
    out = model(x, T)
    assert not torch.equal(out, model(x, T + 1))
    assert not torch.equal(out, model(x + 0.1, T))
    (out**2).sum().backward()
    silent = [
        name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())
    ]
    assert silent == []


def test_both_sides_of_the_image_tell() -> None:
    model, x = awake(CONFIG), images(1, 3, 5, 7).requires_grad_()
    model(x, T[:1])[0, 0, 4, 6].backward()
    assert x.grad is not None
    assert x.grad.ne(0).all()


def test_odd_sides_are_padded_with_their_edge() -> None:
    model, x = awake(CONFIG), images(2, 3, 5, 7)
    rows, columns = [0, 1, 2, 3, 4, 4, 4, 4], [0, 1, 2, 3, 4, 5, 6, 6]
    with torch.no_grad():
        whole = model(x[:, :, rows][:, :, :, columns].contiguous(), T)
        assert torch.equal(model(x, T), whole[:, :, :5, :7])


def test_dropout_acts_in_training_only() -> None:
    model, x = awake(CONFIG), images(2, 3, 8, 8)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert torch.equal(model(x, T), model(x, T))
        model.train()
        assert not torch.equal(model(x, T), model(x, T))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *[
            ({name: value}, f"{name} = {value}: allowed is an integer of at least 1")
            for name, value in product(["image_channels", "channels", "blocks"], [0, -1])
        ],
        ({"channels": 7}, "channels = 7: allowed is an even integer"),
        ({"multipliers": ()}, r"multipliers = \(\): allowed is at least one"),
        ({"multipliers": (1, 0)}, r"multipliers = \(1, 0\)"),
        ({"attention": (2,)}, r"attention = \(2,\): allowed are indices into the 2 multipliers"),
        ({"attention": (-1,)}, r"attention = \(-1,\)"),
        ({"dropout": 1.0}, r"dropout = 1.0: allowed is a probability in \[0, 1\)"),
        ({"dropout": -0.1}, "dropout = -0.1"),
        ({"dropout": float("nan")}, "dropout = nan"),
    ],
)
def test_sizes_that_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNetConfig(**arguments)  # type: ignore[arg-type]
