"""The variational bound of a trained network, term by term, in bits per dimension."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm.decoder import discretised_log_likelihood
from ddpm.diffusion import GaussianDiffusion, Model
from ddpm.kernels.normal import normal
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.samplers.loop import tensor_of
from ddpm.samplers.variances import fixed_variance

NATS_PER_BIT = math.log(2)
BATCH = 128
"""Images given to the network at a time; the result does not depend on it."""


@dataclass(frozen=True, eq=False)
class Bound:
    """Terms of the bound, averaged over the images, in bits per dimension.

    Attributes:
        prior: KL(q(x_T | x_0) || N(0, I)).
        kl: float64 [T + 1], E KL(q(x_(t-1) | x_t, x_0) || p(x_(t-1) | x_t)) at index t >= 2; the
            entries 0 and 1 are 0.
        decoder: E -log p(x_0 | x_1).
    """

    prior: float
    kl: Tensor
    decoder: float

    @property
    def total(self) -> float:
        """The bound on the negative log-likelihood, in bits per dimension."""
        return self.prior + float(self.kl.sum()) + self.decoder


def prior_bits(diffusion: GaussianDiffusion, x_start: Tensor) -> float:
    """KL(q(x_T | x_0) || N(0, I)) in bits per dimension.  K-61."""
    return float(prior_bits_per_image(diffusion, x_start).mean())


def prior_bits_per_image(diffusion: GaussianDiffusion, x_start: Tensor) -> Tensor:
    """The same for each image by itself, float64 [B]."""
    alpha_bar = float(diffusion.schedule.alpha_bar[-1])
    log_noise = float(diffusion.schedule.one_minus_alpha_bar[-1].log())
    power = x_start.double().square().flatten(1).mean(dim=1)
    return (alpha_bar * power - alpha_bar - log_noise) / 2 / NATS_PER_BIT


def level_bits(
    diffusion: GaussianDiffusion,
    model: Model,
    x_start: Tensor,
    t: int,
    seed: int,
    labels: Tensor | None = None,
) -> float:
    """One draw of the KL between the true and the estimated step from level t, in bits/dim.

    Sources: V-eq6, T-eq3, K-66, G-44, L-2.12. Where the variance is learned, so are both laws'
    differences in it; otherwise the estimate enters by its squared error alone.

    Args:
        diffusion: The process.
        model: The network.
        x_start: Clean images [B, ...]; image i is sample i of the evaluation noise.
        t: Level, in 2..T.
        seed: Key of the evaluation noise.
        labels: int64 [B], the classes of the images, or None.
    """
    return float(level_bits_per_image(diffusion, model, x_start, t, seed, labels).mean())


def level_bits_per_image(
    diffusion: GaussianDiffusion,
    model: Model,
    x_start: Tensor,
    t: int,
    seed: int,
    labels: Tensor | None = None,
) -> Tensor:
    """The same for each image by itself, float64 [B]; of learned variances level 1 too."""
    if diffusion.learned != "none":
        return _learned_bits(diffusion, model, x_start, t, seed, labels)
    guess = estimate(diffusion, model, x_start, t, seed, labels)
    error = (guess - x_start).double().square().flatten(1).mean(dim=1)
    drop = float(diffusion.schedule.snr_drop[t])
    level = torch.tensor(t)
    _, _, posterior = diffusion.schedule.posterior(level - 1, level)
    chosen = fixed_variance(
        diffusion.schedule, level - 1, level, diffusion.variance, diffusion.error
    )
    # With r = chosen / posterior the KL is (log r + 1 / r - 1 + drop error / r) / 2.
    ratio = float(chosen / posterior)
    width = math.log(ratio) + 1 / ratio - 1
    return (width + drop * error / ratio) / 2 / NATS_PER_BIT


def decoder_bits(
    diffusion: GaussianDiffusion,
    model: Model,
    x_start: Tensor,
    *,
    levels: int,
    std: float | None,
    seed: int,
    labels: Tensor | None = None,
) -> float:
    """One draw of -log p(x_0 | x_1) in bits/dim: a discretised Gaussian around the estimate.

    Sources: L-2.10, K-63, V-eq3. The standard deviation is a parameter of the model, or where the
    variance is learned that of the network, with `std` None.
    """
    found = decoder_bits_per_image(
        diffusion, model, x_start, levels=levels, std=std, seed=seed, labels=labels
    )
    return float(found.mean())


def decoder_bits_per_image(
    diffusion: GaussianDiffusion,
    model: Model,
    x_start: Tensor,
    *,
    levels: int,
    std: float | None,
    seed: int,
    labels: Tensor | None = None,
) -> Tensor:
    """The same for each image by itself, float64 [B]."""
    if diffusion.learned != "none":
        return _learned_bits(diffusion, model, x_start, 1, seed, labels)
    if std is None:
        raise ValueError("std = None: allowed with a fixed variance is a positive number")
    mean = estimate(diffusion, model, x_start, 1, seed, labels)
    scores = discretised_log_likelihood(x_start, mean, std, levels)
    return -scores.flatten(1).mean(dim=1) / NATS_PER_BIT


def fit_decoder_std(
    diffusion: GaussianDiffusion,
    model: Model,
    x_start: Tensor,
    *,
    levels: int,
    seed: int,
    labels: Tensor | None = None,
) -> float | None:
    """Standard deviation of the decoder that is most likely on the given (training) images.

    Args:
        diffusion: The process.
        model: The network.
        x_start: Clean training images [B, ...].
        levels: Number of grey levels.
        seed: Key of the evaluation noise.
        labels: int64 [B], the classes of the images, or None.

    Returns:
        The best of 60 geometrically spaced values around sqrt(1 - alpha_bar_1), within 4 percent;
        None where the network tells the variance itself.
    """
    if diffusion.learned != "none":
        return None
    mean = estimate(diffusion, model, x_start, 1, seed, labels)
    centre = float(diffusion.schedule.sigma[1])
    grid = [centre * 10 ** (-1 + 1.5 * i / 59) for i in range(60)]
    scores = [float(discretised_log_likelihood(x_start, mean, s, levels).mean()) for s in grid]
    return grid[max(range(len(grid)), key=scores.__getitem__)]


@torch.no_grad()
def calc_bpd_loop(
    diffusion: GaussianDiffusion,
    model: Model,
    x_start: Tensor,
    *,
    levels: int,
    decoder_std: float | None,
    seed: int = 0,
    labels: Tensor | None = None,
) -> Iterator[tuple[int, float]]:
    """Yield (t, bits/dim) for t = T, ..., 2 (KL terms) and last (1, decoder).

    Args:
        diffusion: The process.
        model: The network.
        x_start: Clean images [B, ...] in [-1, 1], on the grey levels.
        levels: Number of grey levels of the data.
        decoder_std: Standard deviation of the decoder; None where the variance is learned.
        seed: Key of the evaluation noise, one draw per image and level.
        labels: int64 [B], the classes of the images, or None.
    """
    for t in range(diffusion.schedule.steps, 1, -1):
        yield t, level_bits(diffusion, model, x_start, t, seed, labels)
    last = decoder_bits(
        diffusion, model, x_start, levels=levels, std=decoder_std, seed=seed, labels=labels
    )
    yield 1, last


def collect(prior: float, terms: Sequence[tuple[int, float]]) -> Bound:
    """The bound from its prior term and the pairs that `calc_bpd_loop` yielded."""
    kl = torch.zeros(1 + max(t for t, _ in terms), dtype=torch.float64)
    for t, bits in terms:
        kl[t] = bits
    decoder = float(kl[1])
    kl[1] = 0.0
    return Bound(prior, kl, decoder)


@torch.no_grad()
def estimate(
    diffusion: GaussianDiffusion,
    model: Model,
    x_start: Tensor,
    t: int,
    seed: int,
    labels: Tensor | None,
) -> Tensor:
    """Clean images that the network sees in one draw of x_t, not clipped; arguments as above."""
    parts = [
        diffusion.predict_xstart(draw.output, draw.x_t, draw.level)
        for draw in _draws(diffusion, model, x_start, t, seed, labels)
    ]
    return torch.cat(parts)


@torch.no_grad()
def _learned_bits(
    diffusion: GaussianDiffusion,
    model: Model,
    x_start: Tensor,
    t: int,
    seed: int,
    labels: Tensor | None,
) -> Tensor:
    """One draw of the bound's term of level t where the network gives the variance, [B]."""
    loss, terms = diffusion.loss, []
    for draw in _draws(diffusion, model, x_start, t, seed, labels):
        nats = loss.bound_terms(draw.output.contiguous(), draw.x_start, draw.noise, draw.level)
        terms.append(nats.double())
    return torch.cat(terms) / NATS_PER_BIT


@dataclass(frozen=True, eq=False)
class _Draw:
    """Some images, one draw of their noisy versions, and what the network makes of it."""

    x_start: Tensor
    noise: Tensor
    x_t: Tensor
    level: Tensor
    output: Tensor


def _draws(
    diffusion: GaussianDiffusion,
    model: Model,
    x_start: Tensor,
    t: int,
    seed: int,
    labels: Tensor | None,
) -> Iterator[_Draw]:
    key = Key.of(seed, range(len(x_start)), step=t, device=x_start.device)
    for first in range(0, len(x_start), BATCH):
        part = slice(first, first + BATCH)
        x, sample = x_start[part], key.sample[part]
        shape = list(x.shape[1:])
        noise = normal(key.seed, key.step, sample, Stream.EVALUATION_NOISE, shape, torch.float32)
        level = torch.full((len(x),), t, dtype=torch.int64, device=x.device)
        x_t = diffusion.q_sample(x, level, noise)
        known = {} if labels is None else {"labels": labels[part]}
        yield _Draw(x, noise, x_t, level, tensor_of(model(x_t, level, **known)))
