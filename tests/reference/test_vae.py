import numpy as np
import pytest

from ddpm.reference.vae import (
    bernoulli_log_likelihood,
    decode,
    elbo_gradient,
    encode,
    initial_vae,
    latent_kl,
    reparametrised,
)


def test_shapes() -> None:
    vae = initial_vae(6, 2, np.random.default_rng(0), 5)
    assert vae.encoder[0].weight.shape == (6, 5)
    mean, log_variance = encode(vae.encoder, np.zeros((3, 6)))
    assert latent_kl(mean, log_variance).shape == (3,)
    assert latent_kl(np.zeros((4, 3, 2)), np.zeros((4, 3, 2))).shape == (4, 3)
    assert decode(vae.decoder, mean).shape == (3, 6)
    elbo, gradient = elbo_gradient(vae, np.zeros((3, 6)), np.zeros((3, 2)))
    assert elbo.shape == (3,)
    for networks in zip(vae, gradient, strict=True):
        for layer, by_layer in zip(*networks, strict=True):
            assert layer.weight.shape == by_layer.weight.shape
            assert layer.bias.shape == by_layer.bias.shape


def test_the_encoder_returns_the_mean_first() -> None:
    vae = initial_vae(6, 2, np.random.default_rng(0), 5)
    vae.encoder[1].weight[:] = 0
    vae.encoder[1].bias[:] = [1, 2, 3, 4]
    mean, log_variance = encode(vae.encoder, np.zeros((1, 6)))
    np.testing.assert_array_equal(mean, [[1, 2]])
    np.testing.assert_array_equal(log_variance, [[3, 4]])


def test_the_likelihood_is_not_summed() -> None:
    assert bernoulli_log_likelihood(np.zeros((3, 1)), np.zeros(4)).shape == (3, 4)
    np.testing.assert_array_equal(bernoulli_log_likelihood([0.0, 1.0], 0.0), [-np.log(2)] * 2)


@pytest.mark.parametrize("pixel", [-1e-9, 1 + 1e-9])
def test_pixels_outside_the_unit_interval_are_refused(pixel: float) -> None:
    vae = initial_vae(1, 1, np.random.default_rng(0), 2)
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\]"):
        bernoulli_log_likelihood([0.5, pixel], 0.0)
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\]"):
        elbo_gradient(vae, [[pixel]], np.zeros((1, 1)))


def test_noise_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="noise must have shape"):
        reparametrised(np.zeros((2, 1)), np.zeros((2, 1)), np.zeros(2))
