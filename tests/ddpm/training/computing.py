"""Updates of a small network through `Compute` and without it, to be compared."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddpm.config import ComputeConfig
from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.models.initialise import build
from ddpm.models.unet import UNet, UNetConfig
from ddpm.schedule import Schedule
from ddpm.training.compute import Compute, Network

CPU = torch.device("cpu")
DIFFUSION = GaussianDiffusion(Schedule.log_snr_linear(20), "eps")
BATCH = 4

BOUNDS = {"bfloat16": (1e-2, 5e-2), "float16": (1e-3, 1e-2)}
"""Of losses and of the gradient: about three, or six, times the measured difference.

Each of some twenty layers rounds to 2^-9, or 2^-12; the gradient goes through twice as many.
"""


def network(dropout: float = 0.0, multipliers: tuple[int, ...] = (1, 2)) -> UNet:
    """A U-Net with attention, and with no layer that begins at zero."""
    config = UNetConfig(
        image_channels=3,
        channels=8,
        multipliers=multipliers,
        blocks=1,
        attention=(len(multipliers) - 1,),
        dropout=dropout,
    )
    model = build(lambda: UNet(config), 0, CPU)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                scale = parameter[0].numel() ** -0.5
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model


@dataclass(frozen=True)
class Updates:
    """What some updates did."""

    losses: list[Tensor]
    gradients: list[Tensor]
    weights: dict[str, Tensor]


def losses_of(call: Network, number: int, side: int = 8) -> Tensor:
    x = torch.randn(BATCH, 3, side, side, generator=torch.Generator().manual_seed(number))
    t = torch.tensor([1, 2 + number, 19 - number, 20])
    # Every update draws the dropout that its number says.
    torch.default_generator.manual_seed(number)
    key = Key.of(0, range(BATCH), number)
    return DIFFUSION.training_losses(call, x, t, key=key)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)


def updates(config: ComputeConfig, model: UNet | None = None, *, count: int = 2) -> Updates:
    model = model or network()
    compute = Compute(config, CPU)
    assert compute.prepare(model) is model
    call, optimiser = compute.compiled(model), adam(model)
    losses, gradients = [], []
    for number in range(count):
        each = losses_of(call, number)
        assert each.dtype == torch.float32
        optimiser.zero_grad()
        compute.backward(each.mean())
        compute.unscale(optimiser)
        gradients.append(flat(p.grad for p in model.parameters() if p.grad is not None))
        compute.step(optimiser)
        losses.append(each.detach())
    assert all(p.dtype == torch.float32 for p in model.parameters())
    return Updates(losses, gradients, model.state_dict())


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([x.flatten() for x in tensors])


def assert_same_bits(one: Updates, other: Updates) -> None:
    for mine, theirs in zip(
        one.losses + one.gradients, other.losses + other.gradients, strict=True
    ):
        assert torch.equal(mine, theirs)
    assert one.weights.keys() == other.weights.keys()
    assert all(torch.equal(x, other.weights[name]) for name, x in one.weights.items())


def assert_close(one: Updates, other: Updates, loss: float, gradient: float) -> None:
    """Bound the difference of each loss, and of the first gradient as a whole, by its size."""
    for mine, theirs in zip(one.losses, other.losses, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=loss, atol=0.0)
    error = torch.linalg.vector_norm(one.gradients[0] - other.gradients[0])
    assert float(error / torch.linalg.vector_norm(other.gradients[0])) < gradient
    assert one.weights.keys() == other.weights.keys()


def plain_updates(model: UNet) -> Updates:
    """The same updates without Compute."""
    optimiser = adam(model)
    losses, gradients = [], []
    for number in range(2):
        each = losses_of(model, number)
        optimiser.zero_grad()
        each.mean().backward()  # type: ignore[no-untyped-call]
        gradients.append(flat(p.grad for p in model.parameters() if p.grad is not None))
        optimiser.step()
        losses.append(each.detach())
    return Updates(losses, gradients, model.state_dict())
