"""What is maximised: bounds against the evidence, and the weighted levels."""

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ddpm.reference.average_bound import average_bound
from ddpm.reference.chain import Chain
from ddpm.reference.level_sampling import adjacent_pair, uniform_level, weighted_level
from ddpm.reference.linear_reverse import LinearReverse
from ddpm.verify.figures.canvas import canvas
from ddpm.verify.strategies import Array

DEVIATION = 0.2**0.5
GAINS = (0.5, 0.7, 0.8**0.5)
STEPS = 8
PAIRS = 1200


def evidence_and_bound(slopes: Array, gain: float) -> tuple[Array, Array]:
    """Mean log evidence of unit data under p(x_0 | x_1) = N(slope x_1, 0.2), and its bound.

    The bound uses one noising step of the given gain (T-fn31); the evidence does not know it.
    """
    chain = Chain([1 - gain**2])
    models = [LinearReverse(np.array([k]), np.zeros(1), np.array([DEVIATION**2])) for k in slopes]
    evidence = [float(model.average_log_evidence(0.0, 1.0)) for model in models]
    bound = [float(average_bound(chain, model, 0.0, 1.0)) for model in models]
    return np.array(evidence), np.array(bound)


def two_bounds() -> Figure:
    """Bounds of one evidence whose optima lie elsewhere than its own (T fig. 3)."""
    figure, (axes,) = canvas("log evidence of the data and bounds on it")
    slopes = np.linspace(0.1, 1.2, 221)
    for i, gain in enumerate(GAINS):
        evidence, bound = evidence_and_bound(slopes, gain)
        if i == 0:
            axes.plot(slopes, evidence, color="black", label="log evidence")
            axes.plot(slopes[np.argmax(evidence)], evidence.max(), "ok")
        (line,) = axes.plot(slopes, bound, "--", label=f"bound, x_1 = {gain:.2f} x_0 + noise")
        axes.plot(slopes[np.argmax(bound)], bound.max(), "o", color=line.get_color())
    axes.set_ylim(-3.5, -1.3)
    axes.set_xlabel("parameter of the model")
    axes.set_ylabel("nats")
    axes.legend(fontsize=8)
    return figure


def weighted_augmentation() -> Figure:
    """Drawing levels by their weight in place of weighting their losses (T fig. 2)."""
    figure, panels = canvas("every level alike", "levels drawn by their weight")
    chain = Chain(np.linspace(0.05, 0.4, STEPS))
    weights = np.linspace(1.0, 0.1, STEPS) ** 2
    rng = np.random.default_rng(0)
    draws = rng.random(PAIRS)
    x0 = rng.choice([-1.0, 1.0], PAIRS) + 0.2 * rng.normal(size=PAIRS)
    noise, step_noise = rng.normal(size=(2, PAIRS))
    for axes, t in zip(
        panels, (uniform_level(draws, STEPS), weighted_level(draws, weights)), strict=True
    ):
        before, after = adjacent_pair(chain, t, x0, noise, step_noise)
        pairs = np.stack([np.stack([t - 1, before], -1), np.stack([t, after], -1)], 1)
        axes.add_collection(LineCollection(list(pairs), color="C0", alpha=0.12, linewidth=0.8))
        axes.plot(t - 1, before, ".", color="C0", markersize=2, alpha=0.6)
        axes.plot(t, after, ".", color="C1", markersize=2, alpha=0.6)
        axes.set_xlabel("level of x_(t-1) and of x_t")
        axes.set_ylim(-3.5, 3.5)
    return figure
