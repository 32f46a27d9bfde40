"""Gaussian diffusion as a family of models."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddpm import flow_likelihood, likelihood
from ddpm.data.images import to_float
from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError, check
from ddpm.extras import require_extra
from ddpm.flow_likelihood import FlowBits
from ddpm.keys import Key
from ddpm.processes.base import Batch, WithoutConstants, check_label
from ddpm.samplers.adaptive_catalogue import ADAPTIVE, check_adaptive, draw_adaptive
from ddpm.samplers.catalogue import CATALOGUE, USUAL, USUAL_STEPS, levels_of, table_of
from ddpm.samplers.continuous import ContinuousDenoiser, times_of
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
        return (*CATALOGUE, *ADAPTIVE)

    @property
    def usual(self) -> Sampler:
        """See `Trained.usual`."""
        return Sampler(name=USUAL, steps=min(USUAL_STEPS, self.levels))

    def check(self, sampler: Sampler) -> int:
        """See `Trained.check`."""
        check(
            self.classes > 0 or sampler.guidance == 1,
            "guidance", sampler.guidance, "1 for a model without classes",
        )  # fmt: skip
        check(math.isfinite(sampler.guidance), "guidance", sampler.guidance, "a finite number")
        check_label(sampler, self.classes)
        check(sampler.name in self.samplers, "sampler", sampler.name, ", ".join(self.samplers))
        placed = sampler.levels is None or sampler.spacing == Sampler().spacing
        check(placed, "spacing", sampler.spacing, "none with levels of your own")
        if sampler.name in ADAPTIVE:
            return check_adaptive(sampler, self.diffusion, self.model)
        return len(self.table(sampler).levels)

    def table(self, sampler: Sampler) -> StepTable:
        """The steps of a sampler, see `ddpm.samplers.catalogue.table_of`."""
        diffusion = self.diffusion
        return table_of(sampler, diffusion.schedule, diffusion.prediction, diffusion.variance)

    def sample(
        self, shape: Sequence[int], key: Key, sampler: Sampler, labels: Tensor | None = None
    ) -> Iterator[State]:
        """See `Trained.sample`."""
        diffusion, x = self.diffusion, self.diffusion.initial_noise(shape, key)
        conditions: dict[str, Any] = {} if labels is None else {"labels": labels}
        guidance = guidance_of(sampler, labels, self.classes)
        if sampler.name in ADAPTIVE:
            return draw_adaptive(sampler, diffusion, self.model, x, key, conditions, guidance)
        edit = None if sampler.ilvr is None else sampler.ilvr.edit(diffusion, shape, key)
        return diffusion.sample_progressive(
            self.model, x, key, self.table(sampler), guidance=guidance, edit=edit, **conditions
        )

    def start(self, shape: Sequence[int], key: Key, sampler: Sampler) -> State:
        """See `Trained.start`."""
        levels = levels_of(sampler, self.diffusion.schedule)
        return State(self.initial(shape, key), levels[0], 0, len(levels) - 1)

    def initial(self, shape: Sequence[int], key: Key) -> Tensor:
        """Images of nothing but noise, float32 [B, C, H, W], as every sampler begins with."""
        return self.diffusion.initial_noise(shape, key)

    def fit_decoder(self, images: Tensor, labels: Tensor | None, seed: int) -> float | None:
        """See `Trained.fit_decoder`."""
        return likelihood.fit_decoder_std(
            self.diffusion, self.model, to_float(images, self.grey_levels),
            levels=self.grey_levels, seed=seed, labels=labels,
        )  # fmt: skip

    def prior_bits(self, images: Tensor, labels: Tensor | None, seed: int) -> float:
        """See `Trained.prior_bits`."""
        del labels, seed
        return float(self.prior_bits_by_image(images).mean())

    def terms(
        self, images: Tensor, labels: Tensor | None, seed: int, decoder_std: float | None
    ) -> Iterator[tuple[int, float]]:
        """See `Trained.terms`."""
        for t, bits in self.terms_by_image(images, labels, seed, decoder_std):
            yield t, float(bits.mean())

    def prior_bits_by_image(self, images: Tensor) -> Tensor:
        """See `ScoresEachImage.prior_bits_by_image`."""
        return likelihood.prior_bits_per_image(self.diffusion, to_float(images, self.grey_levels))

    @torch.no_grad()
    def terms_by_image(
        self, images: Tensor, labels: Tensor | None, seed: int, decoder_std: float | None
    ) -> Iterator[tuple[int, Tensor]]:
        """See `ScoresEachImage.terms_by_image`."""
        x = to_float(images, self.grey_levels)
        for t in range(self.levels, 1, -1):
            yield t, likelihood.level_bits_per_image(
                self.diffusion, self.model, x, t, seed, labels
            )  # fmt: skip
        yield 1, likelihood.decoder_bits_per_image(
            self.diffusion, self.model, x, levels=self.grey_levels, std=decoder_std, seed=seed,
            labels=labels,
        )  # fmt: skip

    def check_flow(self) -> None:
        """See `ScoresByFlow.check_flow`."""
        require_extra("likelihood = 'ode'", "ode", "torchdiffeq")
        try:
            times_of(self.diffusion.schedule, [self.levels, 0])
            ContinuousDenoiser(self.diffusion, self.model)
        except ValueError as error:
            raise InputError(f"likelihood = 'ode': {error}") from None

    def flow_bits(
        self, images: Tensor, labels: Tensor | None, seed: int, decoder_std: float | None
    ) -> FlowBits:
        """See `ScoresByFlow.flow_bits`."""
        return flow_likelihood.flow_bits(
            self.diffusion, self.model, to_float(images, self.grey_levels),
            levels=self.grey_levels, decoder_std=decoder_std, seed=seed, labels=labels,
        )  # fmt: skip
