"""A small autoencoder, and the same one in NumPy and SciPy."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import integrate, stats
from torch import Tensor

from ddpm.models.vae import LOG_SCALE_LIMIT, Vae, VaeConfig
from tests.ddpm.models.networks import awake

Array = NDArray[np.float64]
SHAPE = (1, 2, 2)
LEVELS = 5
NODES = np.linspace(-9, 9, 4001)


def model(latent: int = 1, scale: float = 2.0) -> Vae:
    """A model whose laws lie far from those of zero weights, the farther the larger the scale."""
    net = awake(lambda: Vae(VaeConfig(latent=latent, hidden=6), SHAPE, LEVELS))
    for value in net.state_dict().values():
        value.mul_(scale)
    return net


def pictures(count: int, levels: int = LEVELS, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(levels, (count, *SHAPE), generator=generator, dtype=torch.uint8)


def edges(levels: int) -> Array:
    inner = (2 * np.arange(1, levels) - levels) / (levels - 1)
    return np.array([-np.inf, *inner, np.inf])


class Oracle:
    """The same model in NumPy and SciPy, for one latent coordinate."""

    def __init__(self, model: Vae) -> None:
        self.state = {k: v.double().numpy() for k, v in model.state_dict().items()}
        self.levels = model.grey_levels

    def layers(self, name: str, x: Array) -> Array:
        hidden = np.tanh(x @ self.state[f"{name}.0.weight"].T + self.state[f"{name}.0.bias"])
        out = hidden @ self.state[f"{name}.2.weight"].T + self.state[f"{name}.2.bias"]
        return np.asarray(out, dtype=np.float64)

    def moments(self, image: Array) -> tuple[float, float]:
        x = 2 * image.ravel() / (self.levels - 1) - 1
        mean, log_variance = self.layers("encoder", x[None])[0]
        return float(mean), float(np.exp(log_variance / 2))

    def likelihood(self, image: Array, z: Array) -> Array:
        """Log p(x | z) for latents [N], from scipy's distribution function."""
        middle, raw = np.split(self.layers("decoder", z[:, None]), 2, axis=1)
        scale = np.exp(LOG_SCALE_LIMIT * np.tanh(raw / LOG_SCALE_LIMIT))
        cut, k = edges(self.levels), image.ravel().astype(int)
        area = stats.logistic.cdf(cut[k + 1], middle, scale) - stats.logistic.cdf(
            cut[k], middle, scale
        )
        return np.asarray(np.log(area).sum(axis=1))

    def bound(self, image: Array) -> float:
        """E_q of -log p(x | z) + log q(z | x) - log p(z), all three by quadrature."""
        mean, deviation = self.moments(image)
        z = mean + deviation * NODES
        terms = stats.norm.logpdf(z, mean, deviation) - stats.norm.logpdf(z)
        weight = stats.norm.pdf(NODES)
        return float(integrate.trapezoid(weight * (terms - self.likelihood(image, z)), NODES))

    def evidence(self, image: Array) -> tuple[float, float]:
        """-log p(x), and the relative deviation of one importance weight under q."""
        log_p = stats.norm.logpdf(NODES) + self.likelihood(image, NODES)
        p = float(integrate.trapezoid(np.exp(log_p), NODES))
        mean, deviation = self.moments(image)
        square = integrate.trapezoid(
            np.exp(2 * log_p - stats.norm.logpdf(NODES, mean, deviation)), NODES
        )
        return -math.log(p), math.sqrt(float(square) / p**2 - 1)
