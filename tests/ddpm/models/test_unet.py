from hashlib import sha256
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.models.blocks import Attention
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
        classes=draw(st.sampled_from([0, 3])),
        learned_variance=draw(st.booleans()),
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
    outputs = config.image_channels * (2 if config.learned_variance else 1)
    assert start.shape == out.shape == (2, outputs, height, width)
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
        out = model(x, T)
    assert torch.equal(out, whole[:, :, :5, :7])
    assert out.is_contiguous()


@pytest.mark.parametrize(("side", "tokens"), [(28, [14, 7]), (32, [16, 8])])
def test_attention_and_dropout_at_the_sizes_of_known_data(side: int, tokens: list[int]) -> None:
    config = UNetConfig(channels=8, multipliers=(1, 2, 2), blocks=1, attention=(1, 2), dropout=0.1)
    model, x, seen = awake(config).train(), images(2, 1, side, side), list[torch.Size]()
    for module in model.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[2:]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        out = model(x, T)
    assert out.shape == x.shape
    first, second = ((n, n) for n in tokens)
    # Down, middle, and two blocks at each resolution on the way up.
    assert seen == [first, second, second, second, second, first, first]
    out.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_weights_of_configurations_without_classes_stay_those_they_were() -> None:
    """Names and initial weights, by their checksum before there were classes."""
    config = UNetConfig(channels=8, multipliers=(1, 2), blocks=1, attention=(1,))
    state = build(lambda: UNet(config), 7, "cpu").state_dict()
    names = "\n".join(f"{name} {tuple(value.shape)}" for name, value in state.items())
    values = b"".join(value.numpy().tobytes() for value in state.values())
    assert sha256(names.encode()).hexdigest()[:16] == "12fc5fa28e73a5b3"
    assert sha256(values).hexdigest()[:16] == "03ccfd0d2a2c82c6"


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
        ({"multipliers": (1, 65)}, r"multipliers = \(1, 65\): allowed is at most 16 integers"),
        ({"blocks": 65}, "blocks = 65: allowed is at most 64"),
        ({"channels": 2**17}, "channels = 131072: allowed is at most 65536"),
        ({"attention": (2,)}, r"attention = \(2,\): allowed is any choice of indices into the 2"),
        ({"attention": (-1,)}, r"attention = \(-1,\)"),
        ({"classes": -1}, "classes = -1: allowed is 0 for none, or their number"),
        ({"dropout": 1.0}, r"dropout = 1.0: allowed is a probability in \[0, 1\)"),
        ({"dropout": -0.1}, "dropout = -0.1"),
        ({"dropout": float("nan")}, "dropout = nan"),
    ],
)
def test_sizes_that_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNetConfig(**arguments)  # type: ignore[arg-type]
