"""Priors and images that the tests of `ddpm.prior` share."""

import numpy as np
import torch
from torch import Tensor

from ddpm.prior import Prior
from ddpm.reference.priorgrad import Prior as FullPrior
from ddpm.verify.strategies import Array

SHAPE = (1, 2, 2)
LABELS = torch.tensor([2, 0, 1, 0, 2])


def random_prior(rng: np.random.Generator, shape: tuple[int, ...] = SHAPE) -> Prior:
    mean, std = rng.uniform(-0.5, 0.5, shape), np.exp(rng.uniform(-3, 0, shape))
    return Prior(torch.tensor(mean).float(), torch.tensor(std).float())


def full(prior: Prior) -> FullPrior:
    """The same in the reference, whose covariances are matrices."""
    std = prior.std.double().numpy().ravel()
    return FullPrior(prior.mean.double().numpy().ravel(), np.diag(std**2))


def flat(x: Tensor) -> Array:
    return np.asarray(x.double().numpy().reshape(len(x), -1))


def random_images(rng: np.random.Generator, count: int, levels: int) -> Tensor:
    return torch.tensor(rng.integers(0, levels, (count, 1, 3, 2)), dtype=torch.uint8)
