r"""A variational autoencoder: one latent layer, Gaussian encoder, Bernoulli pixels.

    p(z) = N(0, I),  q(z | x) = N(\mu(x), diag \sigma^2(x)),  x_i | z ~ Bernoulli(sigmoid(l_i(z))),
    ELBO = E_q \log p(x | z) - KL(q(z | x) || p(z)) \le \log p(x).

The encoder returns the mean and the log variance, the decoder the logits l. One draw z = \mu +
\sigma \epsilon estimates the expectation, and its gradient passes through z.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from .arrays import Array, as_float, shaped_like
from .mlp import HIDDEN, Network, activations, backward, forward, initial

LogLikelihood = Callable[[Array], Array]


class Vae(NamedTuple):
    """Encoder, pixels to mean and log variance, and decoder, latents to logits.  L-1-arch."""

    encoder: Network
    decoder: Network


def initial_vae(
    pixels: int, latents: int, generator: np.random.Generator, hidden: int = HIDDEN
) -> Vae:
    """Random encoder and decoder of one hidden layer each.  L-1-arch.

    Args:
        pixels: number of pixels of a picture, at least 1.
        latents: number of latent coordinates, at least 1.
        generator: source of the weights.
        hidden: width of the hidden layers.
    """
    return Vae(
        initial((pixels, hidden, 2 * latents), generator),
        initial((latents, hidden, pixels), generator),
    )


def encode(encoder: Network, x: ArrayLike) -> tuple[Array, Array]:
    """Mean and log variance of q(z | x), each of shape (batch, latents).  L-1-arch.

    Args:
        encoder: its network.
        x: pixels, shape (batch, pixels).
    """
    mean, log_variance = np.split(forward(encoder, x), 2, axis=1)
    return mean, log_variance


def decode(decoder: Network, z: ArrayLike) -> Array:
    """Pixel intensities in [0, 1], shape (batch, pixels).  L-1-arch.

    Args:
        decoder: its network.
        z: latents, shape (batch, latents).
    """
    return np.asarray(expit(forward(decoder, z)))


def latent_kl(mean: ArrayLike, log_variance: ArrayLike) -> Array:
    """KL(N(mean, diag exp(log_variance)) || N(0, I)) in nats, at least 0.  L-1.3.

    Args:
        mean: shape (..., latents).
        log_variance: same shape, at most 700; towards minus infinity it grows but stays finite.

    Returns:
        Shape (...), summed over the latents.
    """
    centre, log_s2 = as_float(mean, "mean"), as_float(log_variance, "log_variance")
    return np.asarray(np.sum(centre**2 + np.expm1(log_s2) - log_s2, axis=-1) / 2)


def bernoulli_log_likelihood(x: ArrayLike, logits: ArrayLike) -> Array:
    """Log of p^x (1 - p)^(1 - x), p = sigmoid(logits), in nats, not summed.  X-BCE, L-1-arch.

    Written x l - max(l, 0) - log1p(exp(-|l|)), which neither overflows nor loses digits.

    Args:
        x: pixels in [0, 1], grey ones allowed.
        logits: l, broadcast with x.

    Raises:
        ValueError: a pixel leaves [0, 1].
    """
    pixels, logit = _unit(x), as_float(logits, "logits")
    return np.asarray(pixels * logit - np.maximum(logit, 0) - np.log1p(np.exp(-np.abs(logit))))


def reparametrised(mean: ArrayLike, log_variance: ArrayLike, noise: ArrayLike) -> Array:
    """Draw z = mean + exp(log_variance / 2) noise from q(z | x).  L-1-MC.

    Args:
        mean: shape (..., latents).
        log_variance: same shape.
        noise: standard normal numbers, same shape.

    Raises:
        ValueError: the noise does not have the shape of the mean.
    """
    centre, log_s2 = as_float(mean, "mean"), as_float(log_variance, "log_variance")
    return np.asarray(centre + np.exp(log_s2 / 2) * shaped_like(noise, centre, "noise"))


def elbo_analytic_kl(
    mean: Array, log_variance: Array, noise: Array, log_likelihood: LogLikelihood
) -> Array:
    """One draw of the ELBO with the divergence in closed form.  L-1-MC.

    Args:
        mean: of q(z | x), shape (batch, latents).
        log_variance: same shape.
        noise: standard normal numbers, same shape.
        log_likelihood: gives log p(x | z), shape (batch,), for z of that shape.

    Returns:
        Shape (batch,), in nats; its mean over the noise is the ELBO.
    """
    z = reparametrised(mean, log_variance, noise)
    return log_likelihood(z) - latent_kl(mean, log_variance)


def elbo_by_draw(
    mean: Array, log_variance: Array, noise: Array, log_likelihood: LogLikelihood
) -> Array:
    """One draw of all three terms, log p(x | z) + log p(z) - log q(z | x).  L-1-MC.

    Args:
        mean: of q(z | x), shape (batch, latents).
        log_variance: same shape.
        noise: standard normal numbers, same shape.
        log_likelihood: gives log p(x | z), shape (batch,), for z of that shape.

    Returns:
        Shape (batch,), in nats; its mean over the noise is the ELBO. Which of the two estimators
        varies less depends on the case.
    """
    z = reparametrised(mean, log_variance, noise)
    log_ratio = np.sum(as_float(noise, "noise") ** 2 + log_variance - z**2, axis=1) / 2
    return np.asarray(log_likelihood(z) + log_ratio)


def elbo_gradient(vae: Vae, x: ArrayLike, noise: Array) -> tuple[Array, Vae]:
    """One draw of the ELBO for each picture, and the gradient of their mean.  L-1-arch, L-1-MC.

    Args:
        vae: encoder and decoder.
        x: pixels in [0, 1], shape (batch, pixels).
        noise: standard normal numbers, shape (batch, latents).

    Returns:
        Shape (batch,), in nats, and the gradient by each parameter.

    Raises:
        ValueError: a pixel leaves [0, 1] or a shape does not fit.
    """
    pixels = _unit(x)
    seen = activations(vae.encoder, pixels)
    mean, log_variance = np.split(seen[-1], 2, axis=1)
    made = activations(vae.decoder, reparametrised(mean, log_variance, noise))
    likelihood = bernoulli_log_likelihood(pixels, made[-1]).sum(axis=1)
    by_decoder, by_z = backward(vae.decoder, made, (pixels - expit(made[-1])) / len(pixels))
    spread = np.exp(log_variance / 2)
    by_mean = by_z - mean / len(pixels)
    by_log_variance = (by_z * noise * spread - np.expm1(log_variance) / len(pixels)) / 2
    by_code = np.concatenate([by_mean, by_log_variance], axis=1)
    by_encoder, _ = backward(vae.encoder, seen, by_code)
    return likelihood - latent_kl(mean, log_variance), Vae(by_encoder, by_decoder)


def _unit(x: ArrayLike) -> Array:
    pixels = as_float(x, "x")
    if np.any((pixels < 0) | (pixels > 1)):
        raise ValueError(f"x must lie in [0, 1], got {pixels.min()}..{pixels.max()}")
    return pixels
