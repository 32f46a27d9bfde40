"""Training losses: the weighted simple loss, the hybrid loss and the bound."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.predictions import TRAINABLE
from ddpm.reference import philox
from ddpm.reference.chain import Chain
from ddpm.reference.hybrid import bound_term
from ddpm.reference.parameterisations import predict_x0
from ddpm.reference.posterior import posterior_mean_variance
from ddpm.reference.variances import (
    decoder_variance,
    log_interpolated_variance,
    sigmoid_variance,
)
from ddpm.samplers.variances import LearnedVariance, Variance
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, generators, moderate_betas
from ddpm.weightings import weight_table

TRAINING_NOISE = 2
LEARNED: st.SearchStrategy[LearnedVariance] = st.sampled_from(get_args(LearnedVariance))
PREDICTIONS = st.sampled_from(TRAINABLE)
GREY_LEVELS = 17
VARIANCES: tuple[Variance, ...] = ("learned", "posterior")


def learned_law(chain: Chain, t: int, raw: Array, variance: LearnedVariance) -> Array:
    """Variance of the step from t to t - 1; level 1 is a decoder of positive variance."""
    if variance == "learned_sigmoid":
        return sigmoid_variance(chain, t - 1, t, raw)
    share = raw if variance == "learned" else (raw + 1) / 2
    if t > 1:
        return log_interpolated_variance(chain, t - 1, t, share)
    largest = decoder_variance(chain)
    smallest = decoder_variance(chain, "posterior") if chain.steps > 1 else largest
    return np.asarray(largest**share * smallest ** (1 - share))


def target(prediction: str, chain: Chain, t: int, x0: Array, eps: Array) -> Array:
    signal, sigma = chain.c[t], np.sqrt(chain.one_minus_alpha_bar[t])
    outputs = {"eps": eps, "x0": x0, "v": signal * eps - sigma * x0, "score": -eps / sigma}
    return np.asarray(outputs[prediction])


@settings(max_examples=20)
@given(moderate_betas(), generators(), PREDICTIONS, LEARNED, st.booleans(), st.booleans())
def test_learned_objectives_against_the_reference(
    betas: Array,
    rng: np.random.Generator,
    prediction: Any,
    variance: LearnedVariance,
    bound_alone: bool,
    drawn: bool,
) -> None:
    chain, steps = Chain(betas), len(betas)
    diffusion = GaussianDiffusion(
        Schedule.from_betas(betas.tolist()), prediction, variance, grey_levels=GREY_LEVELS,
        objective="vlb" if bound_alone else None, bound_rate=0.05,
    )  # fmt: skip
    x0 = rng.integers(0, GREY_LEVELS, size=(3, 2, 3)) * 2 / (GREY_LEVELS - 1) - 1
    output, weight = rng.normal(size=(3, 4, 3)), rng.uniform(0.5, 2, size=3)
    t = rng.integers(1, steps + 1, size=3)
    key = Key.of(7, range(3), 9)
    eps = philox.normals(7, TRAINING_NOISE, 9, np.arange(3), 6).reshape(3, 2, 3)
    got = diffusion.training_losses(
        lambda *_: torch.tensor(output, dtype=torch.float32),
        torch.tensor(x0, dtype=torch.float32),
        torch.tensor(t),
        None if drawn else torch.tensor(eps, dtype=torch.float32),
        key=key if drawn else None,
        weight=torch.tensor(weight, dtype=torch.float32),
    )
    for i, level in enumerate(t.tolist()):
        clean, noise = x0[i : i + 1], eps[i : i + 1]
        x_t = chain.c[level] * clean + np.sqrt(chain.one_minus_alpha_bar[level]) * noise
        pred, raw = output[i : i + 1, :2], output[i : i + 1, 2:]
        estimate = predict_x0(prediction, pred, x_t, chain, level, level - 1)
        mean, _ = posterior_mean_variance(chain, level - 1, level, estimate, x_t)
        law = learned_law(chain, level, raw, variance)
        term = float(bound_term(clean, x_t, chain, level, mean, law, GREY_LEVELS)[0]) / 6
        error = float(((target(prediction, chain, level, clean, noise) - pred) ** 2).mean())
        want = weight[i] * steps * term
        if not bound_alone:
            want = weight[i] * (error + 0.05 * steps * term)
        # The term is D + exp(-D)(...) - 1: float32 errors of each part, not of their sum.
        scale = weight[i] * (1 + error + steps * (1 + abs(term)))
        assert float(got[i]) == pytest.approx(want, rel=1e-5, abs=1e-5 * scale)


@pytest.mark.parametrize("objective", ["hybrid", "vlb"])
def test_what_the_bound_trains(objective: Any) -> None:
    """The hybrid loss gives the prediction the gradient of the simple loss alone, the bound not."""
    schedule, x0, t = Schedule.cosine(9), torch.zeros(2, 2, 3), torch.tensor([1, 6])
    output = torch.linspace(-1, 1, 24).reshape(2, 4, 3)
    gradients: list[Tensor] = []
    for variance in VARIANCES:
        chosen = objective if variance == "learned" else None
        diffusion = GaussianDiffusion(schedule, "eps", variance, objective=chosen)
        leaf = (output if variance == "learned" else output[:, :2].contiguous()).requires_grad_()
        loss = diffusion.training_losses(lambda *_, leaf=leaf: leaf, x0, t, key=Key.of(1, [0, 1]))
        gradients += torch.autograd.grad(loss.sum(), leaf)
    same = torch.allclose(gradients[0][:, :2], gradients[1], rtol=1e-5, atol=1e-7)
    assert same == (objective == "hybrid")
    assert gradients[0].abs().min() > 0


@pytest.mark.parametrize("prediction", TRAINABLE)
@pytest.mark.parametrize("weighting", ["simple", "min_snr", "truncated"])
@pytest.mark.parametrize("variance", ["posterior", "learned_sigmoid"])
def test_weightings(prediction: Any, weighting: str, variance: Any) -> None:
    schedule, t = Schedule.cosine(9), torch.tensor([2, 6, 9])
    weights = weight_table(schedule, prediction, weighting)
    x0 = torch.linspace(-1, 1, 18).reshape(3, 2, 3)
    output = 0.3 * torch.ones(3, 2 if variance == "posterior" else 4, 3)

    def losses(chosen: Any) -> Tensor:
        diffusion = GaussianDiffusion(
            schedule, prediction, variance, weighting=chosen, bound_rate=0.0
        )
        return diffusion.training_losses(lambda *_: output, x0, t, key=Key.of(1, range(3)))

    got = losses(weighting)
    torch.testing.assert_close(got, losses("simple") * weights[t].float(), rtol=1e-5, atol=0)
    assert torch.equal(got, losses(weights))


def test_rates_and_objectives() -> None:
    schedule, x0, t = Schedule.cosine(9), torch.zeros(2, 2, 3), torch.tensor([3, 6])
    output = torch.linspace(-1, 1, 24).reshape(2, 4, 3)

    def losses(**options: Any) -> Tensor:
        diffusion = GaussianDiffusion(schedule, "v", "learned", **options)
        return diffusion.training_losses(lambda *_: output, x0, t, key=Key.of(1, [0, 1]))

    simple, bound = losses(bound_rate=0.0), losses(objective="vlb")
    for rate in (0.001, 0.5):
        want = simple + rate * bound
        torch.testing.assert_close(losses(bound_rate=rate), want, rtol=1e-5, atol=0)
    assert torch.equal(losses(), losses(bound_rate=0.001, objective="hybrid"))


def test_bound_of_a_fixed_variance_is_its_weighting_times_the_levels() -> None:
    schedule, t = Schedule.cosine(5), torch.tensor([1, 4])
    x0, output = torch.randn(2, 2, 1, 3, 3, generator=torch.Generator().manual_seed(1))

    def losses(**options: Any) -> Tensor:
        diffusion = GaussianDiffusion(schedule, "v", **options)
        return diffusion.training_losses(lambda *_: output, x0, t, key=Key.of(1, [0, 1]))

    want = 5 * losses(weighting="snr_drop")
    torch.testing.assert_close(losses(objective="vlb"), want, rtol=1e-6, atol=0)


def test_tables_are_copied_once() -> None:
    loss = GaussianDiffusion(Schedule.cosine(3), "v", "learned", weighting="min_snr").loss
    tables, device = loss.tables(torch.device("cpu")), torch.device("cpu")
    assert loss.tables(device) is tables
    assert [x.dtype for x in tables if x is not None] == [torch.float32] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "hybrid"}, r"objective = 'hybrid': allowed with a fixed variance is simple"),
        (
            {"objective": "vlb", "weighting": "p2"},
            r"weighting = p2: allowed with objective 'vlb' is 'simple'",
        ),
        (
            {"objective": "vlb", "weighting": torch.zeros(4).double()},
            r"weighting = a table: allowed with objective 'vlb' is 'simple'",
        ),
        (
            {"objective": "simple", "variance": "learned"},
            r"objective = 'simple': allowed with a learned variance is hybrid or vlb",
        ),
        ({"bound_rate": -1.0}, r"bound_rate = -1.0: allowed is a finite number of at least 0"),
        ({"bound_rate": float("nan")}, r"bound_rate = nan: allowed"),
        ({"bound_rate": float("inf")}, r"bound_rate = inf: allowed"),
        ({"weighting": torch.zeros(4)}, r"weighting = torch.float32 \(4,\): allowed is a name or"),
        ({"weighting": torch.zeros(3).double()}, r"weighting = torch.float64 \(3,\): allowed"),
        ({"weighting": "snr"}, r"weighting = 'snr'"),
        ({"grey_levels": 1, "variance": "learned"}, r"grey_levels = 1: allowed"),
        ({"variance": "optimal"}, r"error = None: allowed for variance 'optimal'"),
        ({"error": torch.zeros(4).double()}, r"error is given: allowed for variance = 'posterior'"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianDiffusion(Schedule.cosine(3), **options)
