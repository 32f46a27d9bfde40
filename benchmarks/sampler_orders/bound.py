r"""How the variational bound of the exact network closes on the exact likelihood, by quadrature.

Of the noised data x_1 the bound on E -log p(x_1) is h(x_1 | x_0) plus the prior's term and those
of the levels 2..T. It exceeds the exact entropy h(x_1) by the divergence of the whole chain from
the model,

    KL(q(x_T) || N(0, 1)) + \sum_{t=2}^T E KL(q(x_{t-1} | x_t) || p(x_{t-1} | x_t)),

whose steps are those of the exact reverse, and which is measured here as E KL(q(x_{1:T} | x_0) ||
p(x_{1:T})) less the information that x_1 holds of x_0. With the exact mean a step of length h in
log-SNR g costs, to leading order in h and with the SNR u = e^g,

    u^2 h^2 E[V^2] / 4            with the variance of the posterior,
    u^2 h^2 Var[V] / 4            with the best constant variance,
    u^3 h^3 E[K^2] / 12           with the exact variance,

where V and K are variance and third cumulant of x_0 given x_t. Over n = T - 1 even steps the sum is
C / n, C / n and C / n^2.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from scipy import integrate
from torch import Tensor

from benchmarks.sampler_orders.axes import Array
from benchmarks.sampler_orders.subjects import LINE
from ddpm.diffusion import GaussianDiffusion
from ddpm.likelihood import NATS_PER_BIT, prior_bits_per_image
from ddpm.reference.augmentation import reverse_step_kl, terminal_kl
from ddpm.reference.chain import Chain
from ddpm.reference.continuous import information
from ddpm.reference.mixture import Mixture
from ddpm.reference.reverse import exact_reverse_moments
from ddpm.schedule import Schedule

LOG_SNR = 4.0, -12.0
"""Of level 1 and of level T, where the law of the data is N(0, 1) to 1e-8 nats."""
RATES = {"posterior": 1, "constant": 1, "exact": 2}
"""Power of 1 / n at which the excess falls, for each variance of the steps."""

Choice = Literal["posterior", "constant", "exact"]

_CLEAN = np.linspace(-7.0, 7.0, 57)
_NOISE = np.linspace(-7.0, 7.0, 113)
_KNOWN = Mixture(np.array(LINE.weights), np.array(LINE.means), np.array(LINE.variances))


class Nodes(NamedTuple):
    """Points of (x_0, eps) and what they weigh.

    Attributes:
        clean: float32 [N, 1].
        noise: float32 [N, 1].
        weights: float64 [N], of sum 1.
    """

    clean: Tensor
    noise: Tensor
    weights: Tensor

    @staticmethod
    def of_line() -> "Nodes":
        """Even points over each component and over the noise, both with the normal density."""
        clean, weights = [], []
        chance, mass = normal_masses(_CLEAN), normal_masses(_NOISE)
        for weight, mean, variance in zip(LINE.weights, LINE.means, LINE.variances, strict=True):
            clean.append(np.repeat(mean + variance**0.5 * _CLEAN, _NOISE.size))
            weights.append(weight * np.outer(chance, mass).ravel())
        noise = np.tile(_NOISE, len(clean) * _CLEAN.size)
        return Nodes(
            torch.tensor(np.concatenate(clean))[:, None].float(),
            torch.tensor(noise)[:, None].float(), torch.tensor(np.concatenate(weights)),
        )  # fmt: skip


def normal_masses(z: Array) -> Array:
    """Weights of even points under N(0, 1), of sum 1."""
    density = np.exp(-(z**2) / 2)
    return np.asarray(density / density.sum())


def schedule_of(steps: int) -> Schedule:
    """The chain with n = T - 1 even steps between the two log-SNRs."""
    return Schedule.log_snr_linear(steps + 1, *LOG_SNR)


@torch.no_grad()
def terms(schedule: Schedule, choice: Choice, nodes: Nodes) -> list[float]:
    """The prior's term and those of levels 2..T in nats, by the library's own functions.

    The network gives the variance as log(variance / posterior) / log(beta / posterior).

    Args:
        schedule: The chain.
        choice: Variance of the steps.
        nodes: Where images and noise are taken.
    """
    diffusion = GaussianDiffusion(schedule, "v", "learned")
    network = LINE.mixture.network(schedule, "v")
    prior = prior_bits_per_image(diffusion, nodes.clean) * NATS_PER_BIT
    found = [float(nodes.weights @ prior)]
    for number in range(2, schedule.steps + 1):
        t = torch.full((len(nodes.clean),), number)
        x_t = diffusion.q_sample(nodes.clean, t, nodes.noise)
        raw = _raw(schedule, number, x_t, choice, nodes.weights)[:, None].float()
        output = torch.cat([network(x_t, t), raw], dim=1)
        nats = diffusion.loss.bound_terms(output, nodes.clean, nodes.noise, t)
        found.append(float(nodes.weights @ nats.double()))
    return found


def _raw(schedule: Schedule, number: int, x_t: Tensor, choice: Choice, weights: Tensor) -> Tensor:
    """The network's second output, float64 [N]."""
    t = torch.tensor(number)
    a, _, least = schedule.posterior(t - 1, t)
    signal, sigma = schedule.alpha_bar[t].sqrt(), schedule.one_minus_alpha_bar[t].sqrt()
    spread = LINE.mixture.posterior(x_t, signal, sigma).trace
    if choice == "posterior":
        spread = torch.zeros_like(spread)
    elif choice == "constant":
        spread = torch.full_like(spread, float(weights @ spread))
    ratio = torch.log1p(a.square() * spread / least)
    return ratio / torch.log(schedule.step_beta(t - 1, t) / least)


def excess(schedule: Schedule, choice: Choice, nodes: Nodes) -> float:
    """Bound less exact entropy of x_1, in nats."""
    known = information(_KNOWN, float(schedule.snr[1]))
    return math.fsum(terms(schedule, choice, nodes)) - known


def exact_entropy(schedule: Schedule) -> float:
    """E -log q(x_1) in nats, by quadrature."""
    c, noise = float(schedule.alpha_bar[1]) ** 0.5, float(schedule.one_minus_alpha_bar[1])
    return -_KNOWN.expectation(lambda x: _KNOWN.log_density(x, c, noise), c, noise)


def excess_of_exact_reverse(schedule: Schedule, choice: Choice) -> float:
    """The same from the exact reverse, step by step, at this very number of levels."""
    chain = Chain(schedule.beta[1:].numpy())
    total = terminal_kl(_KNOWN, chain)
    for t in range(2, chain.steps + 1):
        total += reverse_step_kl(_KNOWN, chain, t - 1, t) + _misfit(chain, t, choice)
    return total


def _misfit(chain: Chain, t: int, choice: Choice) -> float:
    """E KL(N(m, v) || N(m, chosen)), v the exact variance of the reverse step at x_t."""
    if choice == "exact":
        return 0.0
    c, noise = float(chain.c[t]), float(chain.one_minus_alpha_bar[t])

    def mean(function: Callable[[Array], Array]) -> float:
        return _KNOWN.expectation(
            lambda x: function(exact_reverse_moments(_KNOWN, chain, t - 1, t, x)[1]), c, noise
        )

    # The posterior's variance is what a point of data would leave.
    beta = float(chain.beta(t - 1, t))
    chosen = beta * float(chain.one_minus_alpha_bar[t - 1]) / noise
    if choice == "constant":
        chosen = mean(lambda v: v)
    return mean(lambda v: (v / chosen - 1 - np.log(v / chosen)) / 2)


def leading_constant(choice: Choice) -> float:
    """C of the module's last line, by quadrature over log-SNR."""
    high, low = LOG_SNR
    span = high - low

    def density(g: float) -> float:
        u, c = math.exp(g), math.sqrt(1 / (1 + math.exp(-g)))
        noise = 1 / (1 + math.exp(g))

        def mean(function: Callable[[Array], Array]) -> float:
            return _KNOWN.expectation(function, c, noise)

        def spread(x: Array) -> Array:
            return _KNOWN.uncertainty(x, c, noise)

        if choice == "exact":
            return u**3 / 12 * mean(lambda x: _third(spread, x, c, noise) ** 2)
        second = mean(lambda x: spread(x) ** 2)
        return u**2 / 4 * (second if choice == "posterior" else second - mean(spread) ** 2)

    whole, _ = integrate.quad(density, low, high, epsabs=1e-12, epsrel=1e-8, limit=200)
    return float(whole * span ** RATES[choice])


def _third(spread: Callable[[Array], Array], x: Array, c: float, noise: float) -> Array:
    """Third cumulant of x_0 given x_t: the variance's slope in x_t, times noise / c."""
    step = 1e-4
    slope = (spread(x + step) - spread(x - step)) / (2 * step)
    return np.asarray(slope * noise / c)


CHOICES: tuple[Choice, ...] = get_args(Choice)
