"""Variances of a reverse step: with and without the clean sample, and between its two bounds."""

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from ddpm.reference.chain import Chain
from ddpm.reference.mixture import Mixture
from ddpm.reference.posterior import posterior_coefficients
from ddpm.reference.variances import gaussian_variance
from ddpm.verify.figures.canvas import canvas
from ddpm.verify.strategies import Array

CHAIN = Chain([0.15, 0.2, 0.25, 0.3, 0.35, 0.4])
DATA = Mixture(np.array([0.5, 0.5]), np.array([-0.95, 0.95]), np.array([0.0975, 0.0975]))


def reverse_density(x: Array, s: int, t: int, x_t: float) -> Array:
    """Density of q(x_s | x_t) for the data above, by Bayes' rule from the two marginals."""
    keep, spread = np.sqrt(CHAIN.alpha(s, t)), np.sqrt(CHAIN.beta(s, t))
    prior = DATA.log_density(x, CHAIN.c[s], CHAIN.one_minus_alpha_bar[s])
    evidence = DATA.log_density(x_t, CHAIN.c[t], CHAIN.one_minus_alpha_bar[t])
    return np.asarray(np.exp(prior + stats.norm.logpdf(x_t, keep * x, spread) - evidence))


def with_and_without_x0() -> Figure:
    """The reverse step is broad; knowing the clean sample makes it narrow (K fig. 3)."""
    s, t, x_t = 1, 2, 0.1
    figure, (left, right) = canvas(
        f"x_{s} given x_{t} = {x_t}", "variance, Gaussian data of variance 1"
    )
    x = np.linspace(-2.2, 2.2, 400)
    left.plot(x, reverse_density(x, s, t, x_t), label="x_0 unknown", color="black")
    a, b, s2 = posterior_coefficients(CHAIN, s, t)
    for x0 in (-1.0, 0.0, 1.0):
        density = stats.norm.pdf(x, a * x0 + b * x_t, np.sqrt(s2))
        left.plot(x, density, linestyle="--", label=f"x_0 = {x0:g}")
    left.set_xlabel(f"x_{s}")
    left.set_ylabel("density")
    levels = np.arange(1, CHAIN.steps + 1)
    right.plot(
        levels, gaussian_variance(CHAIN, levels - 1, levels, 1.0), "o-k", label="x_0 unknown"
    )
    known = posterior_coefficients(CHAIN, levels - 1, levels).s2
    right.plot(levels, known, "s--", label="x_0 known")
    right.set_xlabel("t")
    for axes in (left, right):
        axes.legend(fontsize=8)
    return figure


def share_of_beta(data_variance: Array, t: int) -> Array:
    """Where Var(x_{t-1} | x_t) of Gaussian data lies between s2 (0) and beta (1)."""
    s2, beta = posterior_coefficients(CHAIN, t - 1, t).s2, CHAIN.beta(t - 1, t)
    return np.asarray((gaussian_variance(CHAIN, t - 1, t, data_variance) - s2) / (beta - s2))


def reverse_variance() -> Figure:
    """The exact variance equals s2 for a point, beta for unit variance, and more beyond."""
    figure, (axes,) = canvas("exact variance of a reverse step, Gaussian data")
    variance = np.linspace(0, 2, 201)
    for t in range(2, CHAIN.steps + 1):
        axes.plot(variance, share_of_beta(variance, t), label=f"t = {t}")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xlabel("variance of the data")
    axes.set_ylabel("(variance - s2) / (beta - s2)")
    axes.legend(fontsize=8, title="0: posterior variance, 1: beta", title_fontsize=8)
    return figure
