import json
import math
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import integrate, stats
from torch import Tensor
from torch.func import functional_call

from ddpm.data.images import to_float
from ddpm.models.initialise import build
from ddpm.models.vae import (
    LOG_SCALE_LIMIT,
    Vae,
    VaeConfig,
    latent_kl,
    logistic_log_likelihood,
    reparametrised,
)
from ddpm.verify.oracles import quad_kl
from tests.ddpm.small_vae import LEVELS, SHAPE, edges, model, pictures

READER: TypeAdapter[VaeConfig] = TypeAdapter(VaeConfig)


def test_bins_against_quadrature_of_the_density() -> None:
    x = to_float(torch.arange(5), 5).double()
    got = logistic_log_likelihood(x, torch.tensor(0.1), torch.tensor(math.log(0.4)), 5).exp()
    density = stats.logistic(0.1, 0.4).pdf
    want = [integrate.quad(density, low, high)[0] for low, high in pairwise(edges(5))]
    np.testing.assert_allclose(got, want, atol=1e-7)


@given(
    st.sampled_from([2, 3, 4, 17, 256]),
    st.floats(-30, 30),
    st.floats(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_probabilities_of_all_grey_levels_sum_to_one(
    levels: int, location: float, log_scale: float, dtype: torch.dtype
) -> None:
    x = (2 * torch.arange(levels, dtype=dtype) - (levels - 1)) / (levels - 1)
    middle, spread = torch.tensor([location, log_scale], dtype=dtype)
    got = logistic_log_likelihood(x, middle, spread, levels)
    assert got.dtype == dtype
    assert float(got.max()) <= 0
    # Two bins round their common edge by 1e-7 each, which a scale of exp(-8) makes 3e-4.
    tolerance = 1e-3 if dtype == torch.float32 else 1e-11
    assert math.isclose(float(got.double().exp().sum()), 1, rel_tol=tolerance)


@pytest.mark.parametrize("location", [-1e3, -1.5, 0.0, 1.5, 1e3])
@pytest.mark.parametrize("log_scale", [-LOG_SCALE_LIMIT, 0.0, LOG_SCALE_LIMIT])
def test_far_tails_and_their_gradients_are_finite(location: float, log_scale: float) -> None:
    x = to_float(torch.arange(256), 256)
    places = torch.tensor([location, log_scale], requires_grad=True)
    got = logistic_log_likelihood(x, places[0], places[1], 256)
    (slopes,) = torch.autograd.grad(got.sum(), places)
    assert got.isfinite().all()
    assert slopes.isfinite().all()


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-6, 3)), min_size=1, max_size=3))
def test_divergence_against_quadrature(moments: list[tuple[float, float]]) -> None:
    mean, log_variance = torch.tensor(moments, dtype=torch.float64).T
    want = sum(quad_kl(m, math.exp(v / 2), 0.0, 1.0) for m, v in moments)
    got = float(latent_kl(mean[None], log_variance[None]))
    assert math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-11)


@given(st.floats(-3, 3), st.floats(-6, 3), st.floats(0.01, 0.99))
def test_a_draw_is_the_quantile_of_its_noise(mean: float, log_variance: float, u: float) -> None:
    rows = [[[value]] for value in (mean, log_variance, float(stats.norm.ppf(u)))]
    middle, spread, noise = torch.tensor(rows, dtype=torch.float64)
    got = float(reparametrised(middle, spread, noise))
    want = float(stats.norm.ppf(u, mean, math.exp(log_variance / 2)))
    assert math.isclose(got, want, rel_tol=1e-12, abs_tol=1e-12)


def test_gradients_against_finite_differences() -> None:
    net = model(latent=2).double()
    names = [name for name, _ in net.named_parameters()]
    x, noise = to_float(pictures(2), LEVELS).double(), torch.tensor([[0.3, -1.2], [0.8, 0.1]])

    def call(*values: Tensor) -> Tensor:
        state = dict(zip(names, values, strict=True))
        out: Tensor = functional_call(net, state, (x, noise.double()))
        return out

    values = tuple(p.detach().clone().requires_grad_() for p in net.parameters())
    assert torch.autograd.gradcheck(call, values)


def test_lower_precision_leaves_the_loss_in_float32() -> None:
    net, images = model(latent=3), pictures(8)
    noise = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        got = net(images, noise)
    assert got.dtype == net.bfloat16()(images, noise).dtype == torch.float32
    assert {x.dtype for x in (*net.encode(noise.new_zeros(2, 4)), *net.decode(noise))} == {
        torch.float32
    }
    torch.testing.assert_close(got, model(latent=3)(images, noise), rtol=0.05, atol=0.05)


def test_scales_are_bounded() -> None:
    net = model()
    for bias in (-1e4, 1e4):
        net.state_dict()["decoder.2.bias"].fill_(bias)
        log_scale = net.decode(torch.zeros(1, 1))[1].detach()
        torch.testing.assert_close(log_scale, torch.full((1, *SHAPE), math.copysign(8.0, bias)))


def test_the_loss_is_one_graph_that_reaches_every_parameter() -> None:
    net, images = model(latent=3), pictures(8)
    noise = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images, noise), net(images, noise))
    torch._dynamo.reset()
    net(images, noise).sum().backward()
    silent = [n for n, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert silent == []
    assert list(net.buffers()) == []


def test_activations() -> None:
    for activation, smallest in (("tanh", -1.0), ("relu", 0.0)):
        config = VaeConfig(hidden=50, activation=activation)  # type: ignore[arg-type]
        net = build(lambda c=config: Vae(c, SHAPE, LEVELS), 0, "cpu")  # type: ignore[misc]
        z = 1e4 * torch.randn(9, 16, generator=torch.Generator().manual_seed(0))
        assert float(net.decoder[:2](z).detach().min()) == smallest
        assert sum(p.numel() for p in net.parameters()) == 5 * 50 + 51 * 32 + 17 * 50 + 51 * 8


def test_a_configuration_survives_json() -> None:
    config = VaeConfig(latent=3, hidden=7, activation="relu")
    assert READER.validate_json(json.dumps(asdict(config))) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latent": 0}, "latent = 0: allowed is an integer from 1 to 65536"),
        ({"hidden": 0}, "hidden = 0: allowed is an integer from 1 to 65536"),
        ({"hidden": 2**17}, "hidden = 131072: allowed is an integer from 1 to 65536"),
        ({"activation": "gelu"}, "activation"),
        ({"width": 3}, "width"),
    ],
)
def test_sizes_that_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        READER.validate_python(fields)
    assert message in str(caught.value)
    assert len(caught.value.errors()) == 1
