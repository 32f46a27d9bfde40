"""The mean of the reverse step that a predicted noise stands for, against regressions."""

import numpy as np
from hypothesis import strategies as st

from ddpm.reference.arrays import per_sample
from ddpm.reference.chain import Chain, Levels
from ddpm.reference.parameterisations import Prediction, predict_eps, predict_mean, predict_x0
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, generators, level_pairs, moderate_betas, shapes

# A solve leaves 1e-11 (see the proofs of the posterior); eight betas of 0.5 leave alpha_bar = 2^-8,
# and eps becomes x_0 by a division by its root, 1/16.
NUMBERS = st.floats(-2.0, 2.0).filter(lambda number: abs(number) > 0.1)
ONE = NUMBERS.map(lambda number: np.array([number]))
THREE = Chain([0.1, 0.25, 0.45])
# x_3 of that chain, and the noise in it when x_0 = 0.6.
NOISY = np.array([-0.3])
TRUE_NOISE = (NOISY - 0.37125**0.5 * 0.6) / 0.62875**0.5


def clean_of(chain: Chain, t: int, x_t: Array, noise: Array) -> Array:
    """Solve x_t = gain x_0 + deviation noise for x_0, both from the covariance."""
    (gain,), rest = condition(joint_covariance(chain.betas), t, [0])
    return np.asarray((x_t - np.sqrt(rest) * noise) / gain)


def conditioned_mean(
    prediction: Prediction, output: Array, x_t: Array, chain: Chain, t: int, s: int
) -> Array:
    """Regression of x_s on (x_0, x_t) at the x_0 that a noise stands for."""
    assert prediction == "eps"
    weights, _ = condition(joint_covariance(chain.betas), s, [0, t])
    return np.asarray(weights[0] * clean_of(chain, t, x_t, output) + weights[1] * x_t)


@proof(
    "T-2.5-eps", "V-eq8", "V-8.6", "L-2.8", "K-70..77", "G-37", "G-38",
    of=predict_mean,
    oracle="regression on (x_0, x_t) at the x_0 that solves the simulated chain",
    given=(st.data(), moderate_betas(), shapes(min_batch=1), generators()),
)  # fmt: skip
def mean_of_a_noise(
    evidence: Evidence,
    data: st.DataObject,
    steps: Array,
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    """Any noise, right or wrong, gives the posterior mean at the x_0 it stands for."""
    s, t = data.draw(level_pairs(steps.size))
    x_t, noise = rng.normal(size=(2, *shape))
    got = predict_mean("eps", noise, x_t, Chain(steps), t, s)
    want = conditioned_mean("eps", noise, x_t, Chain(steps), t, s)
    evidence.close(got, want, rtol=1e-9, atol=1e-9, what="mean")


@proof(
    "G-38", "K-75", "T-2.5-eps", "T-2.5-x0",
    of=predict_mean,
    oracle="regression of x_s, and of the noise, on x_t alone",
    given=(st.data(), moderate_betas(), st.floats(0.05, 4.0), ONE),
)  # fmt: skip
def mean_of_the_best_noise(
    evidence: Evidence, data: st.DataObject, steps: Array, data_variance: float, x_t: Array
) -> None:
    """With the best prediction from x_t the mean is that of x_s given x_t."""
    s, t = data.draw(level_pairs(steps.size))
    covariance = joint_covariance(steps, data_variance)
    (slope,), _ = condition(covariance, s, [t])
    (clean,), _ = condition(covariance, 0, [t])
    (gain,), rest = condition(covariance, t, [0])
    noise = (1 - gain * clean) / np.sqrt(rest) * x_t
    chain = Chain(steps)
    for kind, output in (("eps", noise), ("x0", clean * x_t)):
        got = predict_mean(kind, output, x_t, chain, t, s)  # type: ignore[arg-type]
        evidence.close(got, slope * x_t, rtol=1e-9, atol=1e-10, what=f"mean from {kind}")


@proof(
    "L-2.10mu", "L-2.8",
    of=predict_mean,
    oracle="the clean sample itself, of a simulated step",
    given=(moderate_betas(), shapes(min_batch=1), generators()),
)  # fmt: skip
def mean_of_the_last_step(
    evidence: Evidence, steps: Array, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    """With the true noise the last step's mean is the clean sample."""
    x0, noise = rng.normal(size=(2, *shape))
    (gain,), rest = condition(joint_covariance(steps), 1, [0])
    x_1 = gain * x0 + np.sqrt(rest) * noise
    got = predict_mean("eps", noise, x_1, Chain(steps), 1, 0)
    evidence.close(got, x0, rtol=1e-9, atol=1e-9, what="mean")


@proof(
    "K-73", "K-74",
    of=(predict_mean, predict_x0, predict_eps),
    oracle="regression on (x_0, x_t), and the best noise by regression on x_t at two levels",
    given=(st.data(), moderate_betas(min_steps=2), ONE, ONE),
)  # fmt: skip
def network_inside_the_posterior_mean(
    evidence: Evidence, data: st.DataObject, steps: Array, x_t: Array, noise: Array
) -> None:
    """The mean is the posterior's at x_0(x_t, eps(x_t, t)), and eps has to know the level."""
    s, t = data.draw(level_pairs(steps.size))
    chain, covariance = Chain(steps), joint_covariance(steps)
    clean = clean_of(chain, t, x_t, noise)
    evidence.close(predict_x0("eps", noise, x_t, chain, t), clean, rtol=1e-9, what="x_0")
    weights, _ = condition(covariance, s, [0, t])
    want = weights[0] * clean + weights[1] * x_t
    for kind, output in (("eps", noise), ("x0", clean)):
        got = predict_mean(kind, output, x_t, chain, t, s)  # type: ignore[arg-type]
        evidence.close(got, want, rtol=1e-9, atol=1e-9, what=f"mean from {kind}")
    best = [
        predict_eps("x0", condition(covariance, 0, [level])[0] * x_t, x_t, chain, level)
        for level in (1, 2)
    ]
    evidence.holds(np.abs(best[0]) < np.abs(best[1]), "the best noise differs with the level")


def outer_root_of_the_whole_signal(
    prediction: Prediction, output: Array, x_t: Array, chain: Chain, t: Levels, s: Levels
) -> Array:
    """The mean of a noise, divided by the root of alpha_bar_t."""
    if prediction != "eps":
        return predict_mean(prediction, output, x_t, chain, t, s)
    weight = per_sample(chain.beta(s, t) / chain.d[t], x_t)
    return (x_t - weight * output) / per_sample(chain.c[t], x_t)


SEARCH = (st.just("eps"), ONE, ONE, moderate_betas(min_steps=3).map(Chain), st.just(2), st.just(1))


@misprint(
    "K-71", "K-72", "K-75..77",
    of=predict_mean,
    truth=conditioned_mean,
    oracle="regression on (x_0, x_t) at the x_0 that solves the simulated chain",
    counterexample=Counterexample(
        ("eps", np.array([-1.0]), np.array([-0.104886]), Chain([0.1, 0.2]), 2, 1),
        printed=0.321826,
        right=0.305311,
    ),
    search=SEARCH,
)  # fmt: skip
def whole_signal_before_the_mean(
    prediction: Prediction, output: Array, x_t: Array, chain: Chain, t: Levels, s: Levels
) -> Array:
    """The bracket divided by the root of alpha_bar_t, in the target and in the model."""
    return outer_root_of_the_whole_signal(prediction, output, x_t, chain, t, s)


@misprint(
    "G-37",
    of=predict_mean,
    truth=conditioned_mean,
    oracle="regression on (x_0, x_t) at the x_0 that solves the simulated chain",
    counterexample=Counterexample(
        (
            "eps",
            (np.array([-0.3]) - 0.37125**0.5 * 0.6) / 0.62875**0.5,
            np.array([-0.3]),
            THREE,
            3,
            2,
        ),
        printed=0.2894,
        right=0.2378,
    ),
    search=SEARCH,
)
def whole_signal_before_the_true_mean(
    prediction: Prediction, output: Array, x_t: Array, chain: Chain, t: Levels, s: Levels
) -> Array:
    """The posterior mean with the root of alpha_bar_t in front."""
    return outer_root_of_the_whole_signal(prediction, output, x_t, chain, t, s)


@misprint(
    "G-38",
    of=predict_mean,
    truth=conditioned_mean,
    oracle="regression on (x_0, x_t) at the x_0 that solves the simulated chain",
    counterexample=Counterexample(
        ("eps", np.array([0.0]), np.array([1.0]), THREE, 3, 2), printed=1.6412, right=1.3484
    ),
    search=SEARCH,
)
def whole_signal_before_the_model_mean(
    prediction: Prediction, output: Array, x_t: Array, chain: Chain, t: Levels, s: Levels
) -> Array:
    """The model's mean with the root of alpha_bar_t in front."""
    return outer_root_of_the_whole_signal(prediction, output, x_t, chain, t, s)


@misprint(
    "K-70",
    of=predict_mean,
    truth=conditioned_mean,
    oracle="regression on (x_0, x_t) at the x_0 that solves the simulated chain",
    counterexample=Counterexample(
        ("eps", np.array([-1.0]), np.array([-0.104886]), Chain([0.1, 0.2]), 2, 1),
        printed=0.307030,
        right=0.305311,
    ),
    search=SEARCH,
)
def whole_signal_on_the_noisy_sample(
    prediction: Prediction, output: Array, x_t: Array, chain: Chain, t: Levels, s: Levels
) -> Array:
    """The posterior mean of a noise with the root of alpha_bar_t in the weight of x_t."""
    noise = chain.one_minus_alpha_bar
    excess = (chain.c[t] - np.sqrt(chain.alpha(s, t))) * noise[s] / noise[t]
    right = predict_mean(prediction, output, x_t, chain, t, s)
    return right + per_sample(excess, x_t) * x_t if prediction == "eps" else right


@misprint(
    "L-2.10mu",
    of=predict_mean,
    truth=conditioned_mean,
    oracle="regression on (x_0, x_t) at the x_0 that solves the simulated chain",
    counterexample=Counterexample(
        ("eps", np.array([1.2]), np.array([0.9**0.5 * 0.5 + 0.1**0.5 * 1.2]), Chain([0.1]), 1, 0),
        printed=-0.3462,
        right=0.5,
    ),
    search=(st.just("eps"), ONE, ONE, moderate_betas().map(Chain), st.just(1), st.just(0)),
)
def whole_noise_from_the_first_level(
    prediction: Prediction, output: Array, x_t: Array, chain: Chain, t: Levels, s: Levels
) -> Array:
    """The decoder's mean as x_1 less the noise, unscaled."""
    if prediction == "eps" and np.all(np.asarray(t) == 1):
        return x_t - output
    return predict_mean(prediction, output, x_t, chain, t, s)
