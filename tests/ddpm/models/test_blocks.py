import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm.models.blocks import Attention, ResidualBlock, Upsample, group_norm, zeroed
from ddpm.models.initialise import build


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@given(st.integers(1, 200))
def test_groups_divide_the_channels(channels: int) -> None:
    norm = group_norm(channels)
    assert norm.num_channels == channels
    divisors = [n for n in range(1, 9) if channels % n == 0]
    assert norm.num_groups == max(divisors)


@pytest.mark.parametrize(("channels_in", "channels_out"), [(4, 4), (4, 6)])
def test_residual_block_starts_as_its_shortcut(channels_in: int, channels_out: int) -> None:
    block = build(lambda: ResidualBlock(channels_in, channels_out, 5, 0.0), 1, "cpu")
    x = images(2, channels_in, 3, 3)
    assert isinstance(block, ResidualBlock)
    out = block(x, images(2, 5))
    assert out.shape == (2, channels_out, 3, 3)
    assert torch.equal(out, block.shortcut(x))


def test_residual_block_by_hand() -> None:
    block = build(lambda: ResidualBlock(4, 4, 5, 0.0), 1, "cpu")
    assert isinstance(block, ResidualBlock)
    nn.init.dirac_(block.conv_out.weight)
    nn.init.dirac_(block.conv_in.weight)
    x, code = images(1, 4, 3, 3), images(1, 5)

    def normalised(h: Tensor) -> Tensor:
        # Four channels make four groups of one channel.
        return (h - h.mean((2, 3), keepdim=True)) / (
            h.var((2, 3), correction=0, keepdim=True) + 1e-5
        ).sqrt()

    film = (code @ block.film.weight.T).reshape(2, 4, 1, 1)
    h = normalised(F.silu(normalised(x)))
    want = x + F.silu(h * (1 + film[0]) + film[1])
    # A dozen float32 operations on numbers of size 3.
    torch.testing.assert_close(block(x, code), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "heads"), [(4, 1), (32, 1), (64, 2), (96, 3)])
def test_attention_by_hand(channels: int, heads: int) -> None:
    attention = build(lambda: Attention(channels), 2, "cpu")
    assert isinstance(attention, Attention)
    x = images(2, channels, 2, 3)
    assert attention.heads == heads
    assert torch.equal(attention(x), x)
    nn.init.dirac_(attention.out.weight)
    pixels = attention.norm(x).flatten(2).double()
    matrix = attention.qkv.weight.flatten(1).double()
    q, k, v = (matrix @ pixels).reshape(2, 3, heads, channels // heads, 6).unbind(1)
    scores = torch.einsum("bhcq,bhck->bhqk", q, k) / (channels // heads) ** 0.5
    mixed = torch.einsum("bhqk,bhck->bhcq", scores.softmax(-1), v)
    want = x.double() + mixed.reshape(x.shape)
    torch.testing.assert_close(attention(x).double(), want, rtol=1e-4, atol=1e-5)


def test_attention_does_not_depend_on_the_order_of_pixels() -> None:
    attention = build(lambda: Attention(8), 2, "cpu")
    nn.init.dirac_(attention.out.weight)
    x, order = images(1, 8, 1, 6), [3, 1, 0, 5, 4, 2]
    moved = attention(x[..., order])
    torch.testing.assert_close(moved, attention(x)[..., order], rtol=1e-5, atol=1e-5)


def test_upsample_repeats_pixels() -> None:
    up = build(lambda: Upsample(2), 1, "cpu")
    nn.init.dirac_(up.conv.weight)
    x = images(1, 2, 3, 2)
    want = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(up(x), want)


def test_zeroed_marks_the_layer() -> None:
    layer = nn.Conv2d(2, 2, 1)
    assert zeroed(layer) is layer
    assert layer.starts_at_zero is True  # type: ignore[comparison-overlap]
