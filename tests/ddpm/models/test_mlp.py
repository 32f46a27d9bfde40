import torch
from torch import Tensor
from torch.nn import functional as F

from ddpm.models.initialise import build
from ddpm.models.mlp import MLP, MLPConfig, ResidualLayers
from tests.ddpm.models.networks import T, awake, images


def normalised(x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()


def test_a_block_starts_as_its_shortcut() -> None:
    block = build(lambda: ResidualLayers(8, 0.0), 1, "cpu")
    x = images(3, 8)
    assert torch.equal(block(x, images(3, 8, seed=1)), x)


def test_a_block_by_hand() -> None:
    block = build(lambda: ResidualLayers(8, 0.0), 1, "cpu").double()
    with torch.no_grad():
        block.linear_in.weight.copy_(torch.eye(8))
        block.linear_out.weight.copy_(torch.eye(8))
    x, code = images(3, 8).double(), images(3, 8, seed=1).double()
    film = code @ block.modulated.film.weight.T
    h = normalised(F.silu(normalised(x))) * (1 + film[:, :8]) + film[:, 8:]
    torch.testing.assert_close(block(x, code), x + h * torch.sigmoid(h), rtol=1e-9, atol=1e-9)


def test_every_value_tells_every_value() -> None:
    model = awake(lambda: MLP(MLPConfig(width=12, depth=1), (2, 3, 2)))
    x = images(2, 2, 3, 2).requires_grad_()
    model(x, T)[0, 1, 2, 1].backward()
    assert x.grad is not None
    assert x.grad[0].ne(0).all()
    assert x.grad[1].eq(0).all()


def test_the_level_tells_without_blocks() -> None:
    model, x = awake(lambda: MLP(MLPConfig(width=12, depth=0), (5,))), images(2, 5)
    assert not list(model.blocks)
    assert not torch.allclose(model(x, T), model(x, T + 1), atol=1e-3)


def test_images_and_vectors_are_the_same_values() -> None:
    image, vector = (awake(lambda s=s: MLP(MLPConfig(width=12), s)) for s in ((2, 3, 2), (12,)))  # type: ignore[misc]
    x = images(2, 2, 3, 2)
    assert torch.equal(image(x, T).flatten(1), vector(x.flatten(1), T))
