"""Bits per dimension of held-out images, estimated with other images at every level."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddpm.data.images import ImageData, to_float
from ddpm.data.order import permutation
from ddpm.diffusion import GaussianDiffusion
from ddpm.kernels.streams import Stream
from ddpm.likelihood import (
    Bound,
    collect,
    decoder_bits,
    fit_decoder_std,
    level_bits,
    prior_bits,
)

GROUPS = 8
"""Disjoint parts of the test set, each of which gives an estimate of its own."""
FIT_IMAGES = 1000
"""Training images that the decoder's standard deviation is fitted to."""


@dataclass(frozen=True)
class Bits:
    """The bound on the negative log-likelihood, bits per dimension.

    Attributes:
        total: Mean of the groups.
        error: Its standard error, from the spread of the groups.
        prior: Mean over the groups of the prior's term, and so the next two.
        levels: Of the divergences of levels 2..T.
        decoder: Of the decoder's term.
        decoder_std: Standard deviation of the decoder, fitted to training images; None where the
            network tells it.
        images: Draws of image and noise at each level, all groups together.
    """

    total: float
    error: float
    prior: float
    levels: float
    decoder: float
    decoder_std: float | None
    images: int


@torch.no_grad()
def estimate(
    diffusion: GaussianDiffusion,
    model: nn.Module,
    data: ImageData,
    *,
    images: int,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> Bits:
    """Estimate the bound without giving every image to every level.

    A level's term is a mean over images, so each level may look at other ones and the sum stays
    unbiased. The test set, shuffled, is cut into groups; at level t a group looks at its images
    from number t m on, m a level, under noise of its own. The groups share nothing, so that their
    spread is the error of their mean.

    Args:
        diffusion: The process.
        model: The network.
        data: Training images for the decoder, test images for the bound.
        images: Images at each level, all groups together; at least 2.
        seed: Key of the evaluation noise and of the shuffling.
        advance: Called after each level of each group.
    """
    groups = min(GROUPS, images, len(data.test))
    fit = to_float(data.train[:FIT_IMAGES], data.levels)
    std = fit_decoder_std(diffusion, model, fit, levels=data.levels, seed=seed)
    order = permutation(len(data.test), 0, seed, Stream.EVALUATION_NOISE)
    bounds = []
    for group in range(groups):
        own = to_float(data.test[order[group::groups]], data.levels)
        key = seed * GROUPS + group

        def term(t: int, own: Tensor = own, key: int = key) -> tuple[int, float]:
            x = _window(own, t, max(1, images // groups))
            advance()
            if t > 1:
                return t, level_bits(diffusion, model, x, t, key)
            return t, decoder_bits(diffusion, model, x, levels=data.levels, std=std, seed=key)

        terms = [term(t) for t in range(diffusion.schedule.steps, 0, -1)]
        bounds.append(collect(prior_bits(diffusion, own), terms))
    return _summed(bounds, std, groups * max(1, images // groups))


def _window(images: Tensor, t: int, count: int) -> Tensor:
    """Images t m, t m + 1, ... of a group, beginning again at its end."""
    return images[torch.arange(t * count, (t + 1) * count) % len(images)]


def _summed(bounds: list[Bound], std: float | None, images: int) -> Bits:
    totals = [bound.total for bound in bounds]
    return Bits(
        total=statistics.fmean(totals),
        error=statistics.stdev(totals) / math.sqrt(len(totals)),
        prior=statistics.fmean(bound.prior for bound in bounds),
        levels=statistics.fmean(float(bound.kl.sum()) for bound in bounds),
        decoder=statistics.fmean(bound.decoder for bound in bounds),
        decoder_std=std,
        images=images,
    )
