"""Data whose every answer is known: Gaussian mixtures, as data, as networks and as likelihoods.

Noised to signal a and noise sigma a mixture of N(m_k, C_k) is the mixture of
N(a m_k, a^2 C_k + sigma^2 I), so that score, denoiser, posterior covariance and density are sums
over its components. What samples, trains or scores can be compared with them, and so can yours.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ddpm.kernels.philox import normals, words
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.predictions import Prediction, check_prediction, x0_coefficients
from ddpm.schedule import Schedule


class Posterior(NamedTuple):
    """The law of x_0 given x_t.

    Attributes:
        mean: float64 [B, D], the best denoiser E[x_0 | x_t].
        trace: float64 [B], the trace of its covariance.
    """

    mean: Tensor
    trace: Tensor


class GaussianMixture:
    """A mixture of normal distributions in D dimensions.  T-2.5-opt, T-fn17, T-fn23.

    Args:
        weights: [K], positive, summing to 1 within 1e-9.
        means: [K, D].
        covariances: [K, D, D], symmetric and positive semidefinite; or [K], variances of every
            dimension of a component.

    Raises:
        ValueError: a shape, a weight or a covariance is not allowed.
    """

    def __init__(
        self,
        weights: Tensor | Sequence[float],
        means: Tensor | Sequence[Sequence[float]],
        covariances: Tensor | Sequence[float],
    ) -> None:
        self.weights = torch.as_tensor(weights, dtype=torch.float64)
        self.means = torch.as_tensor(means, dtype=torch.float64)
        given = torch.as_tensor(covariances, dtype=torch.float64)
        _check_shapes(self.weights, self.means, given)
        if given.ndim == 1:
            given = given[:, None, None] * torch.eye(self.dimensions, dtype=torch.float64)
        self.covariances = given
        # The root of the largest number is noise of the decomposition, not of the covariance.
        self.variances, self.axes = torch.linalg.eigh(given)
        floor = -1e-9 * self.variances.abs().amax().clamp(min=1.0)
        if bool((self.variances < floor).any()) or not torch.allclose(given, given.mT):
            raise ValueError(
                f"covariances have eigenvalues down to {float(self.variances.min()):.3g}: "
                "allowed are symmetric positive semidefinite matrices"
            )
        self.variances = self.variances.clamp(min=0.0)

    @property
    def dimensions(self) -> int:
        """D."""
        return self.means.shape[1]

    def log_density(self, x: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
        """Log density of x = signal x_0 + sigma eps, in nats.

        Args:
            x: [B, ...] with D numbers a sample.
            signal: [] or [B], at least 0.
            sigma: [] or [B], at least 0, positive where a covariance is singular.

        Returns:
            float64 [B].
        """
        return torch.logsumexp(self._parts(x, signal, sigma)[0], dim=1)

    def score(self, x: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
        """Gradient of the log density in x, float64 [B, D].  T-fn23."""
        logs, along, spread = self._parts(x, signal, sigma)
        pulls = torch.einsum("kde,bke->bkd", self.axes, along / spread)
        return -torch.einsum("bk,bkd->bd", torch.softmax(logs, 1), pulls)

    def posterior(self, x: Tensor, signal: Tensor, sigma: Tensor) -> Posterior:
        """The law of x_0 given x = signal x_0 + sigma eps.  T-2.5-opt, T-fn23."""
        logs, along, spread = self._parts(x, signal, sigma)
        a, s = _column(signal, x, 3), _column(sigma, x, 3)
        shares = torch.softmax(logs, 1)
        gain = a * self.variances / spread
        means = self.means + torch.einsum("kde,bke->bkd", self.axes, gain * along)
        mean = torch.einsum("bk,bkd->bd", shares, means)
        within = (self.variances * s.square() / spread).sum(2)
        apart = (means - mean[:, None]).square().sum(2)
        return Posterior(mean, (shares * (within + apart)).sum(1))

    def sample(self, key: Key) -> Tensor:
        """Draw one x_0 for each sample of a key, float64 [B, D]."""
        component = words(key.seed, key.step, key.sample, Stream.LEVEL, 1)[:, 0].double()
        ends = self.weights.cumsum(0)[:-1]
        chosen = torch.bucketize((component + 0.5) * 2.0**-32, ends)
        z = normals(key.seed, key.step, key.sample, Stream.INITIAL_NOISE, self.dimensions).double()
        scaled = self.variances[chosen].sqrt() * z
        return self.means[chosen] + torch.einsum("bde,be->bd", self.axes[chosen], scaled)

    def reverse_variance(self, schedule: Schedule, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Mean variance of a dimension of x_s given x_t, the best that a reverse step can have.

        It is that of the posterior and the spread of x_0 seen through it.  T-2.5-var1, T-fn23.

        Args:
            schedule: The noise schedule.
            x: [B, ...], x_t.
            s: int64 [] or [B], levels below t.
            t: int64 [] or [B], levels of x.

        Returns:
            float64 [B].
        """
        a, _, variance = schedule.posterior(s, t)
        signal, sigma = _moments(schedule, t)
        trace = self.posterior(x, signal, sigma).trace
        return variance + a.square() * trace / self.dimensions

    def network(self, schedule: Schedule, prediction: Prediction) -> "AnalyticNetwork":
        """The network that a perfect training would end at.

        Raises:
            ValueError: the prediction does not go with the schedule.
        """
        return AnalyticNetwork(self, schedule, prediction)

    def _parts(self, x: Tensor, signal: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log of weight times density [B, K], x along the axes [B, K, D], variances there."""
        flat = x.reshape(x.shape[0], -1).double()
        if flat.shape[1] != self.dimensions:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; allowed: [B, ...] with {self.dimensions} "
                "numbers a sample"
            )
        a, s = _column(signal, x, 3), _column(sigma, x, 3)
        spread = a.square() * self.variances + s.square()
        along = torch.einsum("kde,bkd->bke", self.axes, flat[:, None] - a * self.means)
        exponent = (along.square() / spread + spread.log()).sum(2)
        constant = self.dimensions * math.log(2 * math.pi)
        return self.weights.log() - 0.5 * (exponent + constant), along, spread.expand_as(along)


class AnalyticNetwork(nn.Module):
    """The exact prediction of a mixture at every level, as a function of (x, t).

    Args:
        mixture: The data.
        schedule: The noise schedule.
        prediction: What is returned.
    """

    def __init__(
        self, mixture: GaussianMixture, schedule: Schedule, prediction: Prediction
    ) -> None:
        super().__init__()
        check_prediction(prediction, schedule)
        self.mixture, self.schedule, self.prediction = mixture, schedule, prediction

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The prediction.

        Args:
            x: [B, ...], any floating dtype, with D numbers a sample.
            t: Levels in 1..T, int64 [B], or floating [B] in [1, T] for levels between two others,
                where "mean" has no meaning.

        Returns:
            Like x.

        Raises:
            ValueError: t is floating where "mean" is predicted, or lies outside.
        """
        if self.prediction == "mean" and t.is_floating_point():
            raise ValueError(
                f"t has dtype {t.dtype}: allowed where 'mean' is predicted is torch.int64, whole "
                "levels with one before them"
            )
        signal, sigma = _moments(self.schedule, t)
        flat = x.reshape(x.shape[0], -1).double()
        score = self.mixture.score(x, signal, sigma)
        a, s = signal[:, None], sigma[:, None]
        if self.prediction == "score":
            found = score
        elif self.prediction == "eps":
            found = -s * score
        else:
            found = self.mixture.posterior(x, signal, sigma).mean
            if self.prediction == "v":
                # v from score and denoiser needs no division, which fails where sigma is tiny.
                found = -a * s * score - s * found
            elif self.prediction == "mean":
                lines = x0_coefficients(self.schedule, self.prediction, t)
                k_x, k_out = (k[:, None] for k in lines)
                found = (found - k_x * flat) / k_out
        return found.reshape(x.shape).to(x.dtype)


def _moments(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    if t.is_floating_point():
        log_snr = schedule.log_snr_at(t)
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
    return schedule.alpha_bar[t].sqrt(), schedule.one_minus_alpha_bar[t].sqrt()


def _column(value: Tensor, x: Tensor, ndim: int) -> Tensor:
    """Make [] or [B] float64 broadcast against [B, ...] of some dimensions."""
    return value.double().expand(x.shape[0]).view(-1, *(1,) * (ndim - 1))


def _check_shapes(weights: Tensor, means: Tensor, covariances: Tensor) -> None:
    if weights.ndim != 1 or len(weights) == 0:
        raise ValueError(f"weights have shape {tuple(weights.shape)}: allowed is [K] with K >= 1")
    if not bool((weights > 0).all()) or abs(float(weights.sum()) - 1) > 1e-9:
        raise ValueError(f"weights = {weights.tolist()}: allowed are positive numbers of sum 1")
    if means.ndim != 2 or len(means) != len(weights) or means.shape[1] == 0:
        raise ValueError(f"means have shape {tuple(means.shape)}: allowed is [{len(weights)}, D]")
    count, size = means.shape
    if tuple(covariances.shape) not in ((count,), (count, size, size)):
        raise ValueError(
            f"covariances have shape {tuple(covariances.shape)}: allowed is [{count}] or "
            f"[{count}, {size}, {size}]"
        )
