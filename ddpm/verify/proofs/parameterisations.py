"""Predictions and what they stand for, against a simulated chain and its covariance."""

from collections.abc import Callable
from itertools import product
from typing import Any, get_args

import numpy as np
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference import parameterisations
from ddpm.reference.chain import Chain
from ddpm.reference.parameterisations import (
    Prediction,
    additive_noise,
    predict_eps,
    predict_mean,
    predict_score,
    predict_v,
    predict_x0,
)
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance, normal_grid
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators, level_pairs, moderate_betas, shapes

# A solve leaves 1e-11, a finite difference 1e-9; eight betas of 0.5 leave alpha_bar = 2^-8, and
# eps becomes x_0 by a division by its root, 1/16.
KINDS: tuple[Prediction, ...] = get_args(Prediction)
# A clean sample of two modes, on nodes close enough for noise of deviation 0.14.
CLEAN = np.linspace(-5.0, 5.0, 301)
MASSES = stats.norm.pdf(CLEAN, -1, 0.5) + stats.norm.pdf(CLEAN, 1, 0.5)


def converted(target: Prediction, *arguments: Any) -> Array:
    """A prediction as another one, by the function of that name."""
    function: Callable[..., Array] = getattr(parameterisations, f"predict_{target}")
    return function(*arguments)


def perfect_outputs(
    steps: Array, s: int, t: int, x0: Array, noise: Array
) -> tuple[Array, dict[Prediction, Array]]:
    """The noisy sample, and what a perfect network would return, without a formula under test."""
    covariance = joint_covariance(steps)
    (gain,), variance = condition(covariance, t, [0])
    weights, _ = condition(covariance, s, [0, t])
    x_t = gain * x0 + np.sqrt(variance) * noise
    # A central difference of the log density of x_t given x_0 is exact: it is a quadratic.
    back, forth = (-((x_t + h - gain * x0) ** 2) / (2 * variance) for h in (-0.5, 0.5))
    # v is the derivative of x_t as (signal, noise) turns on the circle.
    angle = np.arccos(gain)
    ahead, behind = (np.cos(angle + h) * x0 + np.sin(angle + h) * noise for h in (1e-5, -1e-5))
    return x_t, {
        "x0": x0,
        "eps": noise,
        "score": forth - back,
        "v": (ahead - behind) / 2e-5,
        "mean": weights[0] * x0 + weights[1] * x_t,
    }


@proof(
    "T-2.5-x0", "T-2.5-eps", "T-fn22", "K-68", "K-69", "L-2.7", "L-2.8", "G-36", "V-eq8", "V-8.6",
    of=(predict_x0, predict_eps, predict_v, predict_score, predict_mean),
    oracle="a simulated chain: regression, a turn of the circle, a slope of the log density",
    given=(st.data(), moderate_betas(), shapes(min_batch=1), generators()),
    examples=12,
)  # fmt: skip
def every_prediction_becomes_every_other(
    evidence: Evidence,
    data: st.DataObject,
    steps: Array,
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    """What a perfect network would return in one form is turned into every other form."""
    s, t = data.draw(level_pairs(steps.size))
    x0, noise = rng.normal(size=(2, *shape))
    x_t, truth = perfect_outputs(steps, s, t, x0, noise)
    for source, target in product(KINDS, repeat=2):
        got = converted(target, source, truth[source], x_t, Chain(steps), t, s)
        evidence.close(got, truth[target], rtol=1e-7, atol=1e-7, what=f"{target} from {source}")


@proof(
    "T-fn22", "K-68", "L-2.7",
    of=predict_eps,
    oracle="moments of the recovered noise in the joint covariance",
    given=(st.data(), moderate_betas()),
)  # fmt: skip
def recovered_noise_is_standard(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """The noise recovered from (x_0, x_t) has variance one and no covariance with x_0."""
    t = data.draw(st.integers(1, steps.size))
    chain, levels = Chain(steps), [0, t]
    # The map is linear: its weights of x_0 and of x_t are its values at unit vectors.
    weights = predict_eps("x0", np.array([1.0, 0.0]), np.array([0.0, 1.0]), chain, t)
    covariance = joint_covariance(steps, 2.5)[np.ix_(levels, levels)]
    evidence.close(weights @ covariance @ weights, 1.0, rtol=1e-9, what="variance")
    evidence.close(weights @ covariance[:, 0], 0.0, atol=1e-9, what="covariance with x_0")


@proof(
    "T-2.5-x0", "T-fn22", "L-2.8",
    of=(predict_x0, predict_eps, predict_v, predict_score, predict_mean),
    oracle="the marginal law of x_s by regression, and pure noise",
    given=(moderate_betas(), shapes(min_batch=1), generators()),
    examples=20,
)  # fmt: skip
def zero_signal(
    evidence: Evidence, steps: Array, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    """Where x_t is noise alone x0, v and the mean hold all there is to know, eps only itself."""
    x0, noise = rng.normal(size=(2, *shape))
    chain, s, t = Chain([*steps, 1.0]), steps.size, steps.size + 1
    (slope,), _ = condition(joint_covariance(steps), s, [0])
    known: dict[Prediction, Array] = {"x0": x0, "v": -x0, "mean": slope * x0}
    blind: dict[Prediction, Array] = {"eps": noise, "score": -noise}
    pairs = [*product(known, KINDS), *product(blind, blind)]
    for source, target in pairs:
        outputs = known | blind
        got = converted(target, source, outputs[source], noise, chain, t, s)
        evidence.close(got, outputs[target], rtol=1e-11, atol=1e-11, what=f"{target} from {source}")


@proof(
    "T-fn22", "K-69", "L-2.7",
    of=(predict_x0, predict_eps, predict_v),
    oracle="a step of noise 1e-12 made from its parts",
    given=(generators(),),
    examples=5,
)  # fmt: skip
def little_noise(evidence: Evidence, rng: np.random.Generator) -> None:
    """Noise a millionth of the sample costs no digits, from v to either or from eps."""
    x0, noise = rng.normal(size=(2, 4))
    chain, c, d = Chain([1e-12]), np.sqrt(1 - 1e-12), 1e-6
    x_t, v = c * x0 + d * noise, c * noise - d * x0
    evidence.close(predict_eps("v", v, x_t, chain, 1), noise, atol=1e-14, what="eps from v")
    evidence.close(predict_x0("v", v, x_t, chain, 1), x0, atol=1e-14, what="x0 from v")
    evidence.close(predict_x0("eps", noise, x_t, chain, 1), x0, atol=1e-14, what="x0 from eps")
    evidence.close(predict_v("eps", noise, x_t, chain, 1), v, atol=1e-14, what="v from eps")


@proof(
    "T-fn21",
    of=additive_noise,
    oracle="E[x_0 | .] by quadrature over x_0, for the chain's noise and for plain added noise",
    given=(st.data(), moderate_betas(), generators()),
)
def denoising_autoencoder(
    evidence: Evidence, data: st.DataObject, steps: Array, rng: np.random.Generator
) -> None:
    """A denoiser of x_0 plus noise, at x_t / c, is the chain's denoiser at x_t."""
    t = data.draw(st.integers(1, steps.size))
    (gain,), rest = condition(joint_covariance(steps), t, [0])
    x_t = rng.normal(size=(2, 3))
    seen, deviation = additive_noise(Chain(steps), np.full(2, t), x_t)

    def denoised(kernel: Array) -> Array:
        return np.asarray((kernel * MASSES) @ CLEAN / (kernel @ MASSES))

    want = denoised(stats.norm.pdf(x_t[..., None], gain * CLEAN, np.sqrt(rest)))
    got = denoised(stats.norm.pdf(seen[..., None], CLEAN, deviation[:, None, None]))
    evidence.close(got, want, rtol=1e-9, atol=1e-10, what="denoised sample")
    evidence.close(deviation, np.sqrt(rest) / gain, rtol=1e-9, what="deviation")


@proof(
    "T-fn21",
    of=predict_mean,
    oracle="Gauss-Hermite expectations of both costs, the weight of x_0 by conditioning",
    given=(st.data(), moderate_betas()),
)
def cost_of_a_denoiser(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """The error of the mean is that of the denoiser times the squared weight of x_0."""
    s, t = data.draw(level_pairs(steps.size))
    covariance, chain = joint_covariance(steps), Chain(steps)
    weights, _ = condition(covariance, s, [0, t])
    (gain,), rest = condition(covariance, t, [0])
    (x0, noise), mass = normal_grid(2, 20)
    x_t = gain * x0 + np.sqrt(rest) * noise
    guess = np.tanh(x_t)
    off = weights[0] * x0 + weights[1] * x_t - predict_mean("x0", guess, x_t, chain, t, s)
    want = weights[0] ** 2 * (mass @ (x0 - guess) ** 2)
    evidence.close(mass @ off**2, want, rtol=1e-8, what="cost")
