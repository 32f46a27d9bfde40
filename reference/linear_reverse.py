r"""A reverse chain of linear steps, of which every density and every expectation is closed.

    p(x_T) = N(m, w I),   p(x_{t-1} | x_t) = N(k_t x_t + c_t, v_t I),   t = T, ..., 1.

It is the model for which the bound and the evidence can be compared exactly. Coordinates are
independent: where samples come in, values sum over them; where moments come in, they are those of
one coordinate. Log densities are in nats.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, per_sample, shaped_like
from .chain import Chain
from .factorisation import reverse_log_density
from .gaussian import log_density
from .variances import gaussian_variance


@dataclass(frozen=True)
class LinearReverse:
    """A reverse chain with linear means.  K-16..19, L-2.1, G-7, G-10, T-4.3-elbo.

    Args:
        slopes: k_t, shape (T,), T >= 1; entry t - 1 belongs to the step from t to t - 1.
        shifts: c_t, shape (T,).
        variances: v_t, positive, shape (T,).
        terminal_mean: mean m of p(x_T).
        terminal_variance: variance w of p(x_T), positive.

    Raises:
        ValueError: the shapes differ or a variance is not positive.
    """

    slopes: Array
    shifts: Array
    variances: Array
    terminal_mean: float = 0.0
    terminal_variance: float = 1.0

    def __post_init__(self) -> None:
        slopes = as_float(self.slopes, "slopes")
        if slopes.ndim != 1 or slopes.size == 0:
            raise ValueError(f"slopes must have shape (T,) with T >= 1, got {slopes.shape}")
        object.__setattr__(self, "slopes", slopes)
        for name in ("shifts", "variances"):
            object.__setattr__(self, name, shaped_like(getattr(self, name), slopes, name))
        if np.any(self.variances <= 0):
            raise ValueError(f"variances must be positive, got {self.variances.min()}")
        if not self.terminal_variance > 0:
            raise ValueError(f"terminal_variance must be positive, got {self.terminal_variance}")

    @property
    def steps(self) -> int:
        """Number T of steps.  K-16..19."""
        return int(self.slopes.size)

    def step(self, t: int) -> tuple[float, float, float]:
        """Slope, shift and variance of p(x_{t-1} | x_t).  K-19, G-7.

        Raises:
            ValueError: t leaves 1..T.
        """
        if not 1 <= t <= self.steps:
            raise ValueError(f"t must lie in 1..{self.steps}, got {t}")
        tables = self.slopes, self.shifts, self.variances
        slope, shift, variance = (float(table[t - 1]) for table in tables)
        return slope, shift, variance

    def mean(self, t: int, x_t: ArrayLike) -> Array:
        """Mean k_t x_t + c_t of p(x_{t-1} | x_t), shaped like x_t.  K-19, G-7."""
        slope, shift, _ = self.step(t)
        return np.asarray(slope * as_float(x_t, "x_t") + shift)

    def log_step(self, t: int, cleaner: ArrayLike, noisier: ArrayLike) -> Array:
        """Log p(x_{t-1} | x_t), conditioned on the noisier level.  T-fn30, K-62, G-17.

        Args:
            t: noisier level, 1 <= t <= T.
            cleaner: x_{t-1}, shape (batch, ...).
            noisier: x_t, same shape.

        Returns:
            Shape (batch,).
        """
        x = as_float(cleaner, "cleaner")
        mean = self.mean(t, shaped_like(noisier, x, "noisier"))
        return log_density(rows(x), rows(mean), self.variances[t - 1])

    def log_terminal(self, x_T: ArrayLike) -> Array:
        """Log p(x_T), shape (batch,), of samples of shape (batch, ...).  G-11, K-53."""
        return log_density(rows(x_T), self.terminal_mean, self.terminal_variance)

    def log_density(self, path: ArrayLike) -> Array:
        """Log p(x_{0:T}) of a path, shape (T + 1, batch, ...).  T-4.3-elbo, K-45, G-10.

        Raises:
            ValueError: the path does not have T + 1 levels.
        """
        levels = as_float(path, "path")
        if levels.shape[:1] != (self.steps + 1,):
            raise ValueError(f"path must have {self.steps + 1} levels, got shape {levels.shape}")
        slopes, shifts = (per_sample(table, levels[1:]) for table in (self.slopes, self.shifts))
        means = slopes * levels[1:] + shifts
        return reverse_log_density(
            levels, means, self.variances, self.terminal_mean, self.terminal_variance
        )

    def evidence(self) -> tuple[float, float]:
        """Mean and variance of p(x_0), all latents integrated out.  T-fn5, G-13, K-20."""
        mean, variance = self.terminal_mean, self.terminal_variance
        for t in range(self.steps, 0, -1):
            slope, shift, noise = self.step(t)
            mean, variance = slope * mean + shift, slope**2 * variance + noise
        return mean, variance

    def log_evidence(self, x0: ArrayLike) -> Array:
        """Log p(x_0), shape (batch,), of samples of shape (batch, ...).  T-fn5, G-13, G-15."""
        return log_density(rows(x0), *self.evidence())

    def average_log_evidence(self, mean: ArrayLike, variance: ArrayLike) -> Array:
        """E log p(x_0) of one coordinate over data of these moments.  K-41..44, V-eq2, T-fn31.

        Args:
            mean: E x_0, any shape.
            variance: Var x_0, at least 0; no other feature of the data matters.
        """
        return expected_log_density(*data_moments(mean, variance), *self.evidence())


def exact_reverse(chain: Chain, mean: float, variance: float) -> LinearReverse:
    """The reverse chain of data N(mean, variance), which shares its whole law.  L-2.3-tight.

    Args:
        chain: the noising chain.
        mean: mean of the data.
        variance: variance of the data, positive: a point mass has no density to bound.

    Raises:
        ValueError: the variance is not positive.
    """
    t = np.arange(1, chain.steps + 1)
    variances = gaussian_variance(chain, t - 1, t, variance)
    slopes = np.sqrt(1 - chain.betas) * variances / chain.betas
    means = chain.c * mean
    end = chain.alpha_bar[-1] * variance + chain.one_minus_alpha_bar[-1]
    return LinearReverse(
        slopes, means[:-1] - slopes * means[1:], variances, float(means[-1]), float(end)
    )


def expected_log_density(
    mean: ArrayLike, variance: ArrayLike, model_mean: ArrayLike, model_variance: ArrayLike
) -> Array:
    """E log N(x; model_mean, model_variance) over x of these moments.  T-4.3-c, K-41..44, G-17.

    Args:
        mean: E x, any shape.
        variance: Var x, at least 0, broadcast with the mean.
        model_mean: broadcast with the mean.
        model_variance: positive, broadcast with the mean.
    """
    x, centre = as_float(mean, "mean"), as_float(model_mean, "model_mean")
    spread = as_float(model_variance, "model_variance")
    at_the_mean = log_density(x[..., None], centre[..., None], spread)
    return np.asarray(at_the_mean - as_float(variance, "variance") / (2 * spread))


def data_moments(mean: ArrayLike, variance: ArrayLike) -> tuple[Array, Array]:
    """Return the mean and the variance of data as float64, checked.  T-4.3-c.

    Raises:
        ValueError: a number is not finite, or a variance is negative.
    """
    spread = as_float(variance, "variance")
    if np.any(spread < 0):
        raise ValueError(f"variance must be at least 0, got {spread.min()}")
    return as_float(mean, "mean"), spread


def rows(samples: ArrayLike) -> Array:
    """Return samples of shape (batch, ...) as rows, shape (batch, elements).  L-2.1.

    Raises:
        ValueError: there is no batch axis.
    """
    x = as_float(samples, "samples")
    if x.ndim == 0:
        raise ValueError("samples must have shape (batch, ...), got a number")
    return x.reshape(x.shape[0], int(np.prod(x.shape[1:])))
