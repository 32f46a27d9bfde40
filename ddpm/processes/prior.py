"""Gaussian diffusion towards the mean and the variances of the data.  G-49, G-50."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddpm import likelihood
from ddpm.data.images import to_float
from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError, check
from ddpm.keys import Key
from ddpm.prior import Prior, decoder_bits, fit_decoder_std
from ddpm.prior_diffusion import PriorDiffusion
from ddpm.processes.base import Batch
from ddpm.processes.gaussian import GaussianProcess, TrainedGaussian, guidance_of
from ddpm.samplers.catalogue import CATALOGUE
from ddpm.samplers.loop import Model, State
from ddpm.samplers.sampler import Sampler

FITTED_IMAGES = 10_000
"""Training images that mean and variances are taken from."""


class PriorProcess(GaussianProcess):
    """Gaussian diffusion whose noise has the variances of the data, and ends at their mean.

    Args:
        diffusion: The process of the whitened images; its variance is fixed.
        grey_levels: Number of grey levels of the images.
        classes: Number of classes that the network knows; 0 for none.

    Raises:
        InputError: the variance is learned.
    """

    def __init__(self, diffusion: GaussianDiffusion, grey_levels: int, classes: int = 0) -> None:
        super().__init__(diffusion, grey_levels, classes)
        fixed = diffusion.learned == "none"
        check(fixed, "variance", diffusion.variance, "posterior or beta with prior = 'data'")
        self._prior: Prior | None = None

    @property
    def needs_data(self) -> bool:
        """Mean and variances of the data."""
        return True

    @property
    def prior(self) -> Prior:
        """The prior, once it was fitted or loaded."""
        if self._prior is None:
            raise InputError("prior = None: allowed is one that was fitted or loaded")
        return self._prior

    def losses(self, network: Model, batch: Batch) -> Tensor:
        """See `Process.losses`."""
        x_start = to_float(batch.images, self.grey_levels)
        self._prior = self.prior.to(x_start.device)
        return PriorDiffusion(self._prior).training_losses(
            self.diffusion, network, x_start, batch.t, batch.noise,
            key=batch.key if batch.noise is None else None, weight=batch.weight,
            **batch.conditions,
        )  # fmt: skip

    def fit(self, images: Callable[[int], Tensor]) -> None:
        """See `Process.fit`."""
        self._prior = Prior.fit(images(FITTED_IMAGES).cpu(), self.grey_levels)

    def tensors(self) -> dict[str, Tensor]:
        """Mean and standard deviation of every pixel."""
        return self.prior.tensors()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """See `Process.load`."""
        self._prior = Prior.from_tensors(tensors)

    def trained(self, model: nn.Module) -> "TrainedPrior":
        """See `Process.trained`."""
        return TrainedPrior(self.diffusion, model, self.grey_levels, self.classes, self.prior)


@dataclass(frozen=True, eq=False)
class TrainedPrior(TrainedGaussian):
    """A trained network of whitened images, and the prior.

    Attributes:
        prior: Where the noise ends.
    """

    prior: Prior

    @property
    def samplers(self) -> tuple[str, ...]:
        """See `Trained.samplers`; adaptive ones clip to one range for all pixels."""
        return tuple(CATALOGUE)

    def check(self, sampler: Sampler) -> int:
        """See `Trained.check`."""
        if sampler.ilvr is not None:
            raise InputError("ilvr is given: allowed with prior = 'data' is none")
        return super().check(sampler)

    def sample(
        self, shape: Sequence[int], key: Key, sampler: Sampler, labels: Tensor | None = None
    ) -> Iterator[State]:
        """See `Trained.sample`."""
        process = PriorDiffusion(self.prior.to(key.sample.device))
        conditions: dict[str, Any] = {} if labels is None else {"labels": labels}
        return process.sample_progressive(
            self.diffusion, self.model, process.initial(shape, key), key, self.table(sampler),
            guidance=guidance_of(sampler, labels, self.classes), **conditions,
        )  # fmt: skip

    def initial(self, shape: Sequence[int], key: Key) -> Tensor:
        """See `TrainedGaussian.initial`."""
        return PriorDiffusion(self.prior.to(key.sample.device)).initial(shape, key)

    def fit_decoder(self, images: Tensor, labels: Tensor | None, seed: int) -> float | None:
        """Standard deviation of the decoder, in units of the prior's of each pixel."""
        prior, x = self._start(images)
        guess = likelihood.estimate(self.diffusion, self.model, prior.whiten(x), 1, seed, labels)
        around = float(self.diffusion.schedule.sigma[1])
        return fit_decoder_std(prior, guess, x, around, self.grey_levels)

    def prior_bits_by_image(self, images: Tensor) -> Tensor:
        """See `ScoresEachImage`; the divergence is the same in both coordinates."""
        prior, x = self._start(images)
        return likelihood.prior_bits_per_image(self.diffusion, prior.whiten(x))

    @torch.no_grad()
    def terms_by_image(
        self, images: Tensor, labels: Tensor | None, seed: int, decoder_std: float | None
    ) -> Iterator[tuple[int, Tensor]]:
        """See `ScoresEachImage.terms_by_image`."""
        if decoder_std is None:
            raise InputError("decoder_std = None: allowed is what fit_decoder gave")
        prior, x = self._start(images)
        y = prior.whiten(x)
        for t in range(self.levels, 1, -1):
            yield t, likelihood.level_bits_per_image(self.diffusion, self.model, y, t, seed, labels)
        guess, rows = likelihood.estimate(self.diffusion, self.model, y, 1, seed, labels), []
        for one in range(len(x)):
            row = slice(one, one + 1)
            rows.append(decoder_bits(prior, guess[row], x[row], decoder_std, self.grey_levels))
        yield 1, torch.tensor(rows, dtype=torch.float64)

    def check_flow(self) -> None:
        """Refuse a likelihood by the flow: its decoder is that of images that are not whitened."""
        raise InputError("likelihood = 'ode': allowed with prior = 'data' is vlb")

    def _start(self, images: Tensor) -> tuple[Prior, Tensor]:
        """The prior on the device of the images, and these on [-1, 1]."""
        return self.prior.to(images.device), to_float(images, self.grey_levels)
