import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ddpm.models.initialise import build
from ddpm.models.transformer import (
    Transformer,
    TransformerBlock,
    TransformerConfig,
    positions,
)
from tests.ddpm.models.networks import T, awake, images

CONFIG = TransformerConfig(width=16, depth=2, heads=4, patch=2)


def normalised(x: Tensor) -> Tensor:
    """Tokens by NumPy's moments, not torch's layer."""
    array = x.detach().double().numpy()
    centred = array - array.mean(axis=-1, keepdims=True)
    return torch.from_numpy(centred / (array.var(axis=-1, keepdims=True) + 1e-6) ** 0.5)


def test_a_block_starts_as_nothing() -> None:
    block = build(lambda: TransformerBlock(CONFIG), 1, "cpu")
    x = images(2, 5, 16)
    assert torch.equal(block(x, images(2, 16)), x)


def test_a_block_by_hand() -> None:
    block = awake(lambda: TransformerBlock(CONFIG)).double()
    x, embedding = images(2, 5, 16).double(), images(2, 16, seed=1).double()
    six = embedding @ block.modulation.weight.T + block.modulation.bias
    shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = (
        six[:, i : i + 16][:, None] for i in range(0, 96, 16)
    )
    tokens = normalised(x) * (1 + scale_a) + shift_a
    q, k, v = (tokens @ block.qkv.weight.T + block.qkv.bias).chunk(3, dim=-1)
    heads = []
    for first in range(0, 16, 4):
        part = slice(first, first + 4)
        scores = torch.einsum("bqc,bkc->bqk", q[..., part], k[..., part]) / 2
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        heads.append(weights @ v[..., part])
    mixed = torch.cat(heads, dim=-1) @ block.mix.weight.T + block.mix.bias
    middle = x + gate_a * mixed
    inner = (normalised(middle) * (1 + scale_b) + shift_b) @ block.linear_in.weight.T
    inner = inner + block.linear_in.bias
    cubic = math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)
    gelu = 0.5 * inner * (1 + torch.tanh(cubic))
    want = middle + gate_b * (gelu @ block.linear_out.weight.T + block.linear_out.bias)
    torch.testing.assert_close(block(x, embedding), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("rows", "columns", "width"), [(1, 1, 4), (3, 5, 16), (16, 16, 8)])
def test_codes_of_places(rows: int, columns: int, width: int) -> None:
    codes = positions(rows, columns, width, torch.device("cpu")).reshape(rows, columns, width)
    quarter = width // 4
    for row in range(rows):
        for column in range(columns):
            want = [
                wave(place * 10_000 ** (-i / quarter))
                for place in (row, column)
                for wave in (math.sin, math.cos)
                for i in range(quarter)
            ]
            assert codes[row, column].tolist() == pytest.approx(want, abs=1e-5)
    flat = codes.reshape(-1, width)
    apart = torch.cdist(flat, flat).fill_diagonal_(math.inf)
    assert float(apart.min()) > 0.2


def test_a_patch_comes_out_where_it_went_in() -> None:
    """Without blocks that mix, a pixel acts on its own patch alone, at every place."""
    config = TransformerConfig(width=16, depth=1, heads=1, patch=2)
    model = awake(lambda: Transformer(config, 3))
    with torch.no_grad():
        for name, parameter in model.blocks.named_parameters():
            if "modulation" in name:
                parameter.zero_()
        x = images(2, 3, 5, 7)
        before = model(x, T)
        for row, column in [(0, 0), (1, 3), (3, 5), (4, 6), (4, 0)]:
            moved = x.clone()
            moved[1, 2, row, column] += 1
            changed = (model(moved, T) != before).any(dim=1)
            patch = torch.zeros(2, 6, 8, dtype=torch.bool)
            patch[1, row // 2 * 2 :][:2, column // 2 * 2 :][:, :2] = True
            assert torch.equal(changed, patch[:, :5, :7])


def test_blocks_mix_all_patches_and_know_their_places() -> None:
    model, x = awake(lambda: Transformer(CONFIG, 1)), images(1, 1, 6, 6).requires_grad_()
    model(x, T[:1])[0, 0, 5, 5].backward()
    assert x.grad is not None
    assert x.grad.ne(0).all()
    with torch.no_grad():
        turned = model(x.roll(2, dims=-1), T[:1])
        assert not torch.allclose(turned, model(x, T[:1]).roll(2, dims=-1), atol=1e-2)


def test_sides_are_padded_with_their_edge() -> None:
    config = TransformerConfig(width=16, depth=1, heads=2, patch=4)
    model, x = awake(lambda: Transformer(config, 2)), images(2, 2, 5, 8)
    with torch.no_grad():
        whole = model(F.pad(x, (0, 0, 0, 3), mode="replicate"), T)
        out = model(x, T)
    assert torch.equal(out, whole[:, :, :5])
    assert out.is_contiguous()


def test_a_sample_does_not_see_the_rest_of_the_batch() -> None:
    model, x = awake(lambda: Transformer(CONFIG, 1)), images(2, 1, 4, 4)
    other = x.clone()
    other[0] += 1
    with torch.no_grad():
        assert torch.equal(model(x, T)[1], model(other, T)[1])
        assert not torch.equal(model(x, T)[0], model(x, T + 1)[0])
