"""Networks that know the law of the data, and the noise that a sampler draws, in float64."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.predictions import x0_coefficients
from ddpm.reference import philox
from ddpm.verify.strategies import Array

SAMPLING_NOISE, INITIAL_NOISE = 3, 4


def gain(signal: Array, noise: Array, variance: float) -> Array:
    """Regression weight of x_0 on x_t for normal data of this variance."""
    return np.asarray(signal * variance / (signal**2 * variance + noise))


def exact_network(
    diffusion: GaussianDiffusion, mean: float, variance: float
) -> Callable[..., Tensor]:
    """The best possible network for data N(mean, variance), whatever it predicts."""
    schedule = diffusion.schedule
    signal, noise = schedule.alpha_bar.sqrt().numpy(), schedule.one_minus_alpha_bar.numpy()

    def network(x: Tensor, t: Tensor) -> Tensor:
        level = int(t[0])
        weight = float(gain(signal[level], noise[level], variance))
        clean = mean + weight * (x.double() - float(signal[level]) * mean)
        k_x, k_out = x0_coefficients(schedule, diffusion.prediction, t[:1])
        return ((clean - k_x * x) / k_out).float()

    return network


def initial(seed: int, samples: NDArray[np.int64], size: int) -> Array:
    """The images that a sampler starts from."""
    return philox.normals(seed, INITIAL_NOISE, 0, samples, size)
