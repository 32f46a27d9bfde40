import json
import math
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from scipy import integrate, stats
from torch import Tensor
from torch.func import functional_call

from ddpm import vae
from ddpm.data.digits import load
from ddpm.data.images import to_float
from ddpm.kernels.philox import words
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
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
from tests.ddpm.models.networks import awake

Array = NDArray[np.float64]
SHAPE = (1, 2, 2)
LEVELS = 5
NODES = np.linspace(-9, 9, 4001)
READER: TypeAdapter[VaeConfig] = TypeAdapter(VaeConfig)


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


def test_the_loss_averages_to_the_bound_by_quadrature() -> None:
    # The fifth picture's latent has a deviation of 2.5.
    net, image, draws = model(), pictures(5)[4:], 4000
    oracle = Oracle(net)
    noise = torch.randn(draws, 1, generator=torch.Generator().manual_seed(3))
    losses = net(image.expand(draws, *SHAPE), noise).detach().double()
    assert losses.shape == (draws,)
    want = oracle.bound(image[0].numpy()) / 4
    error = float(losses.std()) / draws**0.5
    assert error < 0.03
    assert abs(float(losses.mean()) - want) < 5 * error
    # The divergence is the closed form in every draw, so that at z = mean the loss is known.
    mean, deviation = oracle.moments(image[0].numpy())
    here = quad_kl(mean, deviation, 0, 1) - oracle.likelihood(image[0].numpy(), np.array([mean]))
    got = float(net(image, torch.zeros(1, 1)).detach())
    assert math.isclose(got, float(here[0]) / 4, rel_tol=1e-5)


def test_both_terms_against_quadrature() -> None:
    net, images, draws = model(), pictures(3), 400
    oracle = Oracle(net)
    prior, decoder = vae.elbo_bits(net, images, seed=1, draws=draws)
    rows = [image.numpy() for image in images]
    kl = [quad_kl(*oracle.moments(row), 0.0, 1.0) for row in rows]
    bounds, nats = [oracle.bound(row) for row in rows], 4 * math.log(2)
    assert math.isclose(prior, float(np.mean(kl)) / nats, rel_tol=1e-5)
    # -log p(x | z) of three images: five standard deviations of its average over the draws.
    spread = [
        np.std(oracle.likelihood(row, mean + deviation * np.linspace(-2, 2, 101)))
        for row in rows
        for mean, deviation in [oracle.moments(row)]
    ]
    allowed = 5 * math.sqrt(float(np.square(spread).sum()) / draws) / 3 / nats
    assert allowed < 0.25
    assert abs(prior + decoder - float(np.mean(bounds)) / nats) < allowed


def test_the_importance_bound_against_quadrature() -> None:
    # At this scale q is wide enough for the weights to have a variance.
    net, images, draws, nats = model(scale=1), pictures(3), 400, 4 * math.log(2)
    oracle, rows = Oracle(net), [image.numpy() for image in images]
    truth, deviations = zip(*(oracle.evidence(row) for row in rows), strict=True)
    tight = vae.importance_bits(net, images, seed=1, draws=draws)
    # The average of n weights has a relative deviation of s / sqrt(n), and its log is as far off.
    allowed = 5 * math.sqrt(sum(s**2 for s in deviations) / draws) / 3 / nats
    assert allowed < 0.05
    assert abs(tight - float(np.mean(truth)) / nats) < allowed
    assert all(oracle.bound(row) > nll for row, nll in zip(rows, truth, strict=True))


def test_one_draw_of_the_importance_bound_averages_to_the_bound() -> None:
    net, image = model(), pictures(1)
    found = [vae.importance_bits(net, image, seed, draws=1) for seed in range(400)]
    want = Oracle(net).bound(image[0].numpy()) / 4 / math.log(2)
    assert abs(float(np.mean(found)) - want) < 5 * float(np.std(found)) / 20


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


def test_losses_depend_on_the_key_and_not_on_the_batch() -> None:
    net, images = model(latent=3), pictures(6)
    key = Key.of(5, range(10, 16), step=2)
    losses = vae.training_losses(net, images, key)
    assert losses.dtype == torch.float32
    alone = vae.training_losses(net, images[4:5], Key.of(5, [14], step=2))
    torch.testing.assert_close(alone, losses[4:5], rtol=1e-6, atol=1e-6)
    for other in (Key.of(6, range(10, 16), step=2), Key.of(5, range(10, 16), step=3)):
        assert vae.training_losses(net, images, other).ne(losses).all()
    weight = torch.arange(6.0)
    torch.testing.assert_close(vae.training_losses(net, images, key, weight), losses * weight)
    wrapped = vae.training_losses(lambda *a: net(*a), images, key, latent=3)
    assert torch.equal(wrapped, losses)
    assert torch.equal(vae.training_losses(net, to_float(images, LEVELS), key), losses)


def test_evaluation_does_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    net, images = model(latent=3), pictures(7)
    want = [*vae.elbo_bits(net, images, 1, 3), vae.importance_bits(net, images, 1, 3)]
    monkeypatch.setattr(vae, "BATCH", 2)
    got = [*vae.elbo_bits(net, images, 1, 3), vae.importance_bits(net, images, 1, 3)]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert vae.elbo_bits(net, images, 2, 3)[1] != want[1]


def test_more_draws_are_a_lower_bound() -> None:
    net, images = model(latent=3), pictures(50)
    bits = [vae.importance_bits(net, images, 1, draws) for draws in (1, 10, 100)]
    assert bits[0] > bits[1] > bits[2]


def test_samples_are_the_middle_of_each_pixel() -> None:
    net = model(latent=2)
    got = vae.sample(net, (3, *SHAPE), Key.of(1, [4, 5, 6]))
    assert got.dtype == torch.float32
    assert got.abs().max() <= 1
    assert torch.equal(vae.sample(net, (1, *SHAPE), Key.of(1, [5])), got[1:2])
    many = vae.sample(net, (4000, *SHAPE), Key.of(2, range(4000)))
    z = np.random.default_rng(0).standard_normal((4000, 2))
    middle = np.clip(np.split(Oracle(net).layers("decoder", z), 2, axis=1)[0], -1, 1)
    for pixel in range(4):
        assert stats.ks_2samp(many.flatten(1)[:, pixel], middle[:, pixel]).pvalue > 1e-4


def test_drawn_pixels_have_their_law() -> None:
    net, count = model(), 4000
    bias = torch.tensor([-2.0, -0.1, 0.4, 0.9, 0.0, -1.0, -2.0, 0.3])
    state = net.state_dict()
    state["decoder.2.weight"].zero_()
    state["decoder.2.bias"].copy_(bias)
    got = vae.sample(net, (count, *SHAPE), Key.of(3, range(count)), draw=True)
    grid = to_float(torch.arange(LEVELS), LEVELS)
    assert torch.isin(got, grid).all()
    middle, raw = bias.double().numpy().reshape(2, 4)
    scale = np.exp(LOG_SCALE_LIMIT * np.tanh(raw / LOG_SCALE_LIMIT))
    for pixel in range(4):
        seen = (got.flatten(1)[:, pixel, None] == grid).sum(dim=0).numpy()
        law = np.diff(stats.logistic.cdf(edges(LEVELS), middle[pixel], scale[pixel])) * count
        assert stats.chisquare(seen, law * (seen.sum() / law.sum())).pvalue > 1e-4
    word = words(torch.tensor(3), torch.tensor(0), torch.arange(count), Stream.SAMPLING_NOISE, 4)
    place = np.asarray(stats.logistic.ppf((word.numpy() + 0.5) / 2**32, middle, scale))
    nearest = np.abs(place[..., None] - grid.numpy()).argmin(axis=-1)
    assert np.array_equal(grid.numpy()[nearest], got.flatten(1))


def test_it_beats_the_histogram_of_digits_within_seconds() -> None:
    data = load()
    net = build(lambda: Vae(VaeConfig(hidden=100), data.shape, data.levels), 0, "cpu")
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, betas=(0.9, 0.99))
    start = sum(vae.elbo_bits(net, data.test, 0))
    for step in range(500):
        first = 64 * step % (data.count - 64)
        images = data.train[first : first + 64]
        losses = vae.training_losses(net, images, Key.of(0, range(64), step))
        optimiser.zero_grad()
        losses.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    prior, decoder = vae.elbo_bits(net, data.test, 0)
    # A histogram of each pixel takes 2.44 bits, and log2(17) is 4.09.
    assert start > 3
    assert prior > 0.1
    assert prior + decoder < 2.4


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


def test_what_is_refused() -> None:
    net, images, key = model(latent=3), pictures(2), Key.of(0, range(2))
    with pytest.raises(ValueError, match="activation = 'gelu': allowed is 'tanh' or 'relu'"):
        VaeConfig(activation="gelu")  # type: ignore[arg-type]
    for shape in ((), (1, 0)):
        with pytest.raises(ValueError, match=r"image_shape = .*: allowed is positive sizes"):
            Vae(VaeConfig(), shape, LEVELS)
    for levels in (1, 257):
        with pytest.raises(ValueError, match=f"grey_levels = {levels}: allowed is 2 to 256"):
            Vae(VaeConfig(), SHAPE, levels)
    with pytest.raises(ValueError, match=r"x has shape \[2, 2, 2\]: allowed is \[any, 1, 2, 2\]"):
        net(images[:, 0], torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"noise has shape \[2, 2\]: allowed is \[2, 3\]"):
        net(images, torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"noise has shape \[1, 3\]: allowed is \[2, 3\]"):
        vae.training_losses(net, images, Key.of(0, [0]))
    with pytest.raises(ValueError, match=r"shape = \[2, 1, 2, 3\]: allowed is \[2, 1, 2, 2\]"):
        vae.sample(net, (2, 1, 2, 3), key)
    for draws in (0, -1):
        with pytest.raises(ValueError, match=f"draws = {draws}: allowed is an integer of at least"):
            vae.elbo_bits(net, images, 0, draws)
    with pytest.raises(ValueError, match="number of images = 0: allowed is at least 1"):
        vae.importance_bits(net, images[:0], 0, 1)
