"""The tensors that every contender of a workload is given."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ddpm.kernels.philox import normals
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.schedule import Schedule

STEPS = 1000
SEED = 1

VISITED = list(range(STEPS, -1, -20))
"""Levels that the short samplers visit, in fifty steps."""

T, S = 500, 480
"""Levels of their step that is timed; DDPM goes from T to T - 1."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """A batch, its noise, its levels and a network's outputs, all from one seed.

    Attributes:
        shape: Shape of the batch.
        dtype: Its storage.
        device: Where it is.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @cached_property
    def schedule(self) -> Schedule:
        """The thousand linear betas, which every peer has."""
        return Schedule.linear(STEPS)

    @cached_property
    def signal(self) -> Tensor:
        """float32 [1001], sqrt(alpha_bar)."""
        return self.schedule.signal.to(self.device)

    @cached_property
    def sigma(self) -> Tensor:
        """float32 [1001], sqrt(1 - alpha_bar)."""
        return self.schedule.sigma.to(self.device)

    @cached_property
    def t(self) -> Tensor:
        """int64 [B], levels in 2..T in equal ratios; level 1 has a term of its own in the bound.

        The first levels are where the bound is large enough to be compared.
        """
        exponent = torch.linspace(0, 1, self.shape[0] + 2, dtype=torch.float64)[1:-1]
        return (2 * (STEPS / 2) ** exponent).long().to(self.device)

    @cached_property
    def key(self) -> Key:
        """Where our random numbers are drawn."""
        return Key.of(SEED, range(self.shape[0]), step=2, device=self.device)

    @cached_property
    def x0(self) -> Tensor:
        """Clean data of 256 grey levels in [-0.6, 0.6]."""
        grey = torch.randint(51, 205, self.shape, generator=self._generator(0))
        return (grey / 127.5 - 1).to(self.device, self.dtype)

    @cached_property
    def noise(self) -> Tensor:
        """Standard normal noise: what our operations draw in training."""
        return self._normals(self.key.step, Stream.TRAINING_NOISE)

    @cached_property
    def noise_of_step(self) -> Tensor:
        """Standard normal noise: what our sampler step from level T draws."""
        return self._normals(torch.tensor(T, device=self.device), Stream.SAMPLING_NOISE)

    @cached_property
    def x(self) -> Tensor:
        """The batch at level T."""
        mixed = self.signal[T] * self.x0.float() + self.sigma[T] * self.noise.float()
        return mixed.to(self.dtype)

    @cached_property
    def pred(self) -> Tensor:
        """A network's noise, so near the truth that no estimate of x_0 needs clipping."""
        return (self.noise.float() + 0.005 * self._random(1)).to(self.dtype)

    @cached_property
    def uncond(self) -> Tensor:
        """A network's noise without a condition, as near."""
        return (self.noise.float() + 0.005 * self._random(2)).to(self.dtype)

    @cached_property
    def output(self) -> Tensor:
        """An untrained network's output, which the losses are given."""
        return self._random(5).to(self.dtype)

    @cached_property
    def history(self) -> Tensor:
        """An estimate of x_0 from the step before."""
        return (self.x0.float() + 0.02 * self._random(3)).to(self.dtype)

    @cached_property
    def raw(self) -> Tensor:
        """A network's logits of the variance, in [-1, 1]."""
        return self._random(4).tanh().to(self.dtype)

    def _random(self, number: int) -> Tensor:
        return torch.randn(self.shape, generator=self._generator(number)).to(self.device)

    def _generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(number)

    def _normals(self, step: Tensor, stream: Stream) -> Tensor:
        size = torch.Size(self.shape[1:]).numel()
        drawn = normals(self.key.seed, step, self.key.sample, stream, size)
        return drawn.view(self.shape).to(self.dtype)
