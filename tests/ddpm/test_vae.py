import math

import numpy as np
import pytest
import torch
from scipy import stats

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
)
from ddpm.verify.oracles import quad_kl
from tests.ddpm.small_vae import LEVELS, SHAPE, Oracle, edges, model, pictures


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
