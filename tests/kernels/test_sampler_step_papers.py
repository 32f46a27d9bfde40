"""Rows of the table that make a step of each paper, against the reference's own step."""

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.kernels.affine_step import LEARNED
from ddpm.kernels.sampler_step import sampler_step
from ddpm.kernels.streams import Stream
from ddpm.reference import ddim, philox, posterior, sampling
from ddpm.reference.parameterisations import predict_x0
from ddpm.reference.schedules import cosine_schedule
from ddpm.reference.variances import log_interpolated_variance, sigmoid_variance
from tests.kernels.batches import Array, exact
from tests.kernels.steps import make_step
from tests.kernels.test_philox import SEEDS

CHAIN = cosine_schedule(40)
PREDICTIONS = st.sampled_from(["eps", "x0", "v", "score"])
FORMS = st.sampled_from(["posterior", "beta", "ddim", "log", "sigmoid"])


def x0_row(prediction: str, t: int) -> tuple[float, float]:
    """Weights of x_t and of the output in the estimate of x_0."""
    c, d = float(CHAIN.c[t]), float(CHAIN.d[t])
    weights = {"eps": (1 / c, -d / c), "x0": (0.0, 1.0), "v": (c, -d), "score": (1 / c, d * d / c)}
    return weights[prediction]


def form_row(form: str, s: int, t: int) -> tuple[float, ...]:
    """Columns a, b, c, sd, v0, v1."""
    a, b, s2 = (float(v) for v in posterior.posterior_coefficients(CHAIN, s, t))
    beta = float(CHAIN.beta(s, t))
    if form == "ddim":
        a, b, s2 = (
            float(v)
            for v in ddim.ddim_coefficients(CHAIN, s, t, ddim.ddim_variance(CHAIN, s, t, 0.5))
        )
    spread = {
        "log": (1.0, np.log(s2) / 2, (np.log(beta) - np.log(s2)) / 2),
        "sigmoid": (1.0, s2, beta - s2),
        "beta": (np.sqrt(beta), 0.0, 0.0),
    }
    return a, b, 0.0, *spread.get(form, (np.sqrt(s2), 0.0, 0.0))


def papers_step(form: str, s: int, t: int, x: Array, x0_hat: Array, raw: Array, z: Array) -> Array:
    """One step of the reference, from its own functions of the levels."""
    if form == "ddim":
        return ddim.ddim_step(CHAIN, s, t, x, x0_hat, z, eta=0.5)
    if form in ("posterior", "beta"):
        return sampling.ancestral_step(CHAIN, s, t, x, x0_hat, z, form)  # type: ignore[arg-type]
    mean, _ = posterior.posterior_mean_variance(CHAIN, s, t, x0_hat, x)
    learned = {"log": log_interpolated_variance, "sigmoid": sigmoid_variance}[form]
    return np.asarray(mean + np.sqrt(learned(CHAIN, s, t, raw)) * z)


@given(FORMS, PREDICTIONS, st.integers(2, 36), st.data(), SEEDS, st.booleans())
@settings(max_examples=80)
def test_steps_of_the_papers(
    form: str, prediction: str, t: int, data: Any, seed: int, guided: bool
) -> None:
    s = data.draw(st.integers(1, t - 1))
    learned = form if form in LEARNED else "none"
    step = make_step((2, 1, 9), seed=seed, clip=1.0, guided=guided, learned=learned)
    step["table"] = torch.tensor([[*x0_row(prediction, t), *form_row(form, s, t)]]).float()
    step["levels"], step["row"] = torch.tensor([t]), torch.tensor(0)
    x, output = exact(step["x"]), exact(step["pred"])
    prediction_of, raw = output[:, :1], output[:, 1:]
    if guided:
        # w = scale - 1 of the papers that write (1 + w) cond - w uncond.
        w = float(step["guidance_scale"]) - 1
        prediction_of = (1 + w) * prediction_of - w * exact(step["uncond"])[:, :1]
    x0_hat = predict_x0(prediction, prediction_of, x, CHAIN, t)  # type: ignore[arg-type]
    z = philox.normals(seed, Stream.SAMPLING_NOISE, t, step["sample"].numpy(), 9).reshape(x.shape)
    want = papers_step(form, s, t, x, np.clip(x0_hat, -1, 1), raw, z)
    # The table is rounded to float32: its largest entries, near 100, cancel in the estimate.
    np.testing.assert_allclose(exact(sampler_step(**step)), want, rtol=1e-4, atol=1e-4)
