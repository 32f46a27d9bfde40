"""Diffusion of grey levels as a family of models.  G-3.5-D3PM."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddpm.discrete.chain import places
from ddpm.discrete.process import DiscreteDiffusion
from ddpm.errors import InputError, check
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.processes.base import Batch, WithoutConstants, check_label, check_unused
from ddpm.samplers.levels import check_levels, trailing
from ddpm.samplers.loop import Model, State
from ddpm.samplers.sampler import Sampler

SAMPLERS = ("ancestral",)


class DiscreteProcess(WithoutConstants):
    """Discrete diffusion.

    Args:
        diffusion: The chain and its loss.
        classes: Number of classes that the network knows; 0 for none.
    """

    def __init__(self, diffusion: DiscreteDiffusion, classes: int = 0) -> None:
        self.diffusion, self.classes = diffusion, classes

    @property
    def levels(self) -> int:
        """See `Process.levels`."""
        return self.diffusion.steps

    def losses(self, network: Model, batch: Batch) -> Tensor:
        """See `Process.losses`."""
        return self.diffusion.training_losses(
            network, batch.images, batch.t, batch.key, batch.weight, **batch.conditions
        )

    def trained(self, model: nn.Module) -> "TrainedDiscrete":
        """See `Process.trained`."""
        return TrainedDiscrete(self.diffusion, model, self.classes)


@dataclass(frozen=True, eq=False)
class TrainedDiscrete:
    """A trained network of states and its chain.

    Attributes:
        diffusion: The chain.
        model: The network.
        classes: Number of classes that the network knows; 0 for none.
    """

    diffusion: DiscreteDiffusion
    model: Model
    classes: int

    @property
    def levels(self) -> int:
        """See `Trained.levels`."""
        return self.diffusion.steps

    @property
    def samplers(self) -> tuple[str, ...]:
        """See `Trained.samplers`."""
        return SAMPLERS

    @property
    def usual(self) -> Sampler:
        """See `Trained.usual`."""
        return Sampler()

    def check(self, sampler: Sampler) -> int:
        """See `Trained.check`."""
        check(sampler.name in SAMPLERS, "sampler", sampler.name, "ancestral for discrete data")
        check_unused(sampler, ("steps", "levels"), "discrete data")
        check_label(sampler, self.classes)
        try:
            return len(self._path(sampler)) - 1
        except ValueError as error:
            raise InputError(str(error)) from None

    def _path(self, sampler: Sampler) -> Sequence[int]:
        """Levels that a sampler visits.

        Raises:
            ValueError: they are not allowed.
        """
        if sampler.levels is None:
            return trailing(self.levels, sampler.steps)
        if sampler.steps is not None:
            raise ValueError(f"steps = {sampler.steps}: allowed with levels of your own is None")
        check_levels(sampler.levels, self.levels)
        if sampler.levels[0] != self.levels:
            raise ValueError(
                f"levels begin at {sampler.levels[0]}: allowed for discrete data is T = "
                f"{self.levels}"
            )
        return sampler.levels

    def start(self, shape: Sequence[int], key: Key, sampler: Sampler) -> State:
        """See `Trained.start`."""
        chain, count = self.diffusion.chain, len(self._path(sampler)) - 1
        here = Key(key.seed, torch.zeros_like(key.step), key.sample)
        x = chain.initial(places(here, Stream.INITIAL_NOISE, torch.Size(shape)))
        return State(chain.shown(x), self.levels, 0, count)

    def sample(
        self, shape: Sequence[int], key: Key, sampler: Sampler, labels: Tensor | None = None
    ) -> Iterator[State]:
        """See `Trained.sample`."""
        conditions = {} if labels is None else {"labels": labels}
        return self.diffusion.sample_progressive(
            self.model, shape, key, self._path(sampler), **conditions
        )

    def fit_decoder(self, images: Tensor, labels: Tensor | None, seed: int) -> float | None:
        """Nothing is left open: states are grey levels."""

    def prior_bits(self, images: Tensor, labels: Tensor | None, seed: int) -> float:
        """See `Trained.prior_bits`."""
        return self.diffusion.prior_bits(images)

    def terms(
        self, images: Tensor, labels: Tensor | None, seed: int, decoder_std: float | None
    ) -> Iterator[tuple[int, float]]:
        """See `Trained.terms`."""
        conditions = {} if labels is None else {"labels": labels}
        for t in range(self.levels, 0, -1):
            yield t, self.diffusion.level_bits(self.model, images, t, seed, **conditions)
