"""Gaussian diffusion as a family of models."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddpm import likelihood
from ddpm.data.images import to_float
from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import check
from ddpm.keys import Key
from ddpm.processes.base import Batch, WithoutConstants, check_label
from ddpm.samplers.catalogue import CATALOGUE, table_of
from ddpm.samplers.loop import Guidance, Model, State
from ddpm.samplers.sampler import Sampler
from ddpm.samplers.tables import StepTable


def guidance_of(sampler: Sampler, labels: Tensor | None, classes: int) -> Guidance | None:
    """Classifier-free guidance towards labels, where a sampler has any."""
    if labels is None or sampler.guidance == 1:
        return None
    return Guidance(sampler.guidance, {"labels": torch.full_like(labels, classes)})


class GaussianProcess(WithoutConstants):
    """Gaussian diffusion of images in [-1, 1].

    Args:
        diffusion: Schedule, prediction, variance and objective.
        grey_levels: Number of grey levels of the images.
        classes: Number of classes that the network knows; 0 for none.
    """

    def __init__(self, diffusion: GaussianDiffusion, grey_levels: int, classes: int = 0) -> None:
        self.diffusion, self.grey_levels, self.classes = diffusion, grey_levels, classes

    @property
    def levels(self) -> int:
        """See `Process.levels`."""
        return self.diffusion.schedule.steps

    def losses(self, network: Model, batch: Batch) -> Tensor:
        """See `Process.losses`."""
        return self.diffusion.training_losses(
            network, to_float(batch.images, self.grey_levels), batch.t, batch.noise,
            key=batch.key if batch.noise is None else None, weight=batch.weight,
            **batch.conditions,
        )  # fmt: skip

    def trained(self, model: nn.Module) -> "TrainedGaussian":
        """See `Process.trained`."""
        return TrainedGaussian(self.diffusion, model, self.grey_levels, self.classes)


@dataclass(frozen=True, eq=False)
class TrainedGaussian:
    """A trained network and its process.

    Attributes:
        diffusion: The process.
        model: The network.
        grey_levels: Number of grey levels of the images.
        classes: Number of classes that the network knows; 0 for none.
    """

    diffusion: GaussianDiffusion
    model: Model
    grey_levels: int
    classes: int

    @property
    def levels(self) -> int:
        """See `Trained.levels`."""
        return self.diffusion.schedule.steps

    @property
    def samplers(self) -> tuple[str, ...]:
        """See `Trained.samplers`."""
        return tuple(CATALOGUE)

    def check(self, sampler: Sampler) -> int:
        """See `Trained.check`."""
        check(
            self.classes > 0 or sampler.guidance == 1,
            "guidance", sampler.guidance, "1 for a model without classes",
        )  # fmt: skip
        check_label(sampler, self.classes)
        return len(self.table(sampler).levels)

    def table(self, sampler: Sampler) -> StepTable:
        """The steps of a sampler, see `ddpm.samplers.catalogue.table_of`."""
        diffusion = self.diffusion
        return table_of(sampler, diffusion.schedule, diffusion.prediction, diffusion.variance)

    def sample(
        self, shape: Sequence[int], key: Key, sampler: Sampler, labels: Tensor | None = None
    ) -> Iterator[State]:
        """See `Trained.sample`."""
        x = self.diffusion.initial_noise(shape, key)
        conditions: dict[str, Any] = {} if labels is None else {"labels": labels}
        return self.diffusion.sample_progressive(
            self.model, x, key, self.table(sampler),
            guidance=guidance_of(sampler, labels, self.classes), **conditions,
        )  # fmt: skip

    def fit_decoder(self, images: Tensor, labels: Tensor | None, seed: int) -> float | None:
        """See `Trained.fit_decoder`."""
        return likelihood.fit_decoder_std(
            self.diffusion, self.model, to_float(images, self.grey_levels),
            levels=self.grey_levels, seed=seed, labels=labels,
        )  # fmt: skip

    def prior_bits(self, images: Tensor, labels: Tensor | None, seed: int) -> float:
        """See `Trained.prior_bits`."""
        del labels, seed
        return likelihood.prior_bits(self.diffusion, to_float(images, self.grey_levels))

    def terms(
        self, images: Tensor, labels: Tensor | None, seed: int, decoder_std: float | None
    ) -> Iterator[tuple[int, float]]:
        """See `Trained.terms`."""
        return likelihood.calc_bpd_loop(
            self.diffusion, self.model, to_float(images, self.grey_levels),
            levels=self.grey_levels, decoder_std=decoder_std, seed=seed, labels=labels,
        )  # fmt: skip
