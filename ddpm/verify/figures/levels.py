"""Schedules: how much signal each leaves, and what a coarser chain pays for."""

import numpy as np
from matplotlib.figure import Figure

from ddpm.reference.augmentation import reverse_step_kl, terminal_kl
from ddpm.reference.chain import Chain
from ddpm.reference.mixture import Mixture
from ddpm.reference.schedules import (
    cosine_schedule,
    lambda_schedule,
    linear_log_snr_schedule,
    linear_schedule,
)
from ddpm.verify.figures.canvas import canvas

STEPS = 1000
TENSION_STEPS = 20
LAMBDAS = (0.999, 0.997, 0.99, 0.97, 0.95, 0.9, 0.8, 0.6)
FAINT = 0.01
"""Signal power below which a level is almost pure noise (G-3.3)."""


def faint_levels(chain: Chain) -> int:
    """How many levels hold less than a hundredth of the signal's power."""
    return int(np.sum(chain.alpha_bar < FAINT))


def signal_levels() -> Figure:
    """Signal amplitude and log SNR over the levels, linear against cosine."""
    figure, (left, right) = canvas("signal left at each level", "log SNR")
    chains = {
        "linear": linear_schedule(STEPS),
        "cosine": cosine_schedule(STEPS),
        "linear in log SNR": linear_log_snr_schedule(STEPS),
    }
    t = np.arange(1, STEPS + 1)
    for name, chain in chains.items():
        label = f"{name}: {faint_levels(chain)} levels below 1 %"
        left.plot(t, chain.c[1:], label=label)
        right.plot(t, chain.log_snr[1:], label=name)
    left.set_ylabel("sqrt(alpha_bar)")
    right.set_ylim(-15, 12)
    for axes in (left, right):
        axes.set_xlabel("t")
        axes.legend(fontsize=8)
    return figure


def tension(lambdas: tuple[float, ...] = LAMBDAS) -> tuple[list[float], list[float]]:
    """Terminal KL and mean KL of the reverse steps, for chains of 20 equal steps (T-fn11)."""
    data = Mixture(np.array([0.5, 0.5]), np.array([-0.9, 0.9]), np.array([0.19, 0.19]))
    chains = [lambda_schedule(np.full(TENSION_STEPS, value)) for value in lambdas]
    ends = [terminal_kl(data, chain) for chain in chains]
    steps = [
        float(np.mean([reverse_step_kl(data, chain, t - 1, t) for t in range(1, chain.steps + 1)]))
        for chain in chains
    ]
    return ends, steps


def augmentation_tension() -> Figure:
    """Coarser steps end nearer to noise and leave reverse steps that are less Gaussian."""
    figure, (axes,) = canvas(f"what {TENSION_STEPS} equal steps cost, two-humped data")
    ends, steps = tension()
    beta = 1 - np.square(LAMBDAS)
    axes.loglog(beta, ends, marker="o", label="KL(q(x_T) || N(0, 1))")
    axes.loglog(beta, steps, marker="s", label="KL of a reverse step to a Gaussian, mean")
    axes.set_xlabel("beta = 1 - lambda^2 of each step")
    axes.set_ylabel("nats")
    axes.set_ylim(1e-8, 3)
    axes.legend(fontsize=8)
    return figure
