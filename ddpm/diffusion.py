"""Gaussian diffusion: noising, losses and reverse steps of one schedule and one prediction.

The method names are those that users of other libraries know. Levels run t = 0..T with 0 the clean
data, images lie in [-1, 1], and every random number is a function of a `Key`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.kernels.diffusion_loss import diffusion_loss
from ddpm.kernels.normal import normal
from ddpm.kernels.q_sample import q_sample, q_sample_drawn
from ddpm.kernels.sampler_step import sampler_step
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.levels import trailing
from ddpm.predictions import TRAINABLE, canonical, check_prediction, x0_coefficients
from ddpm.samplers import StepTable, Variance, ancestral_table, ddim_table
from ddpm.schedule import Schedule

Model = Callable[..., Tensor]
"""Any callable of (x [B, ...], t int64 [B], **conditions) with an output shaped like x."""


class Gaussian(NamedTuple):
    """Mean and variance of a Gaussian, broadcast against each other."""

    mean: Tensor
    variance: Tensor


class Reverse(NamedTuple):
    """One reverse distribution p(x_s | x_t) and the clean image it was built from."""

    mean: Tensor
    variance: Tensor
    pred_xstart: Tensor


@dataclass(frozen=True)
class State:
    """A sampler between two steps: the images x at level t, after `step` of `steps` steps."""

    x: Tensor
    t: int
    step: int
    steps: int


class GaussianDiffusion:
    """The forward process, its losses and its reverse process.

    Args:
        schedule: The noise schedule, T levels.
        prediction: What the network outputs: "eps", "x0", "v", "score" or "mean", or a name that
            another library uses for one of them.
        variance: Variance of the reverse steps, "posterior" or "beta".

    Raises:
        ValueError: the prediction is unknown or cannot work under the schedule.
    """

    def __init__(
        self, schedule: Schedule, prediction: str = "eps", variance: Variance = "posterior"
    ) -> None:
        if variance not in ("posterior", "beta"):
            raise ValueError(f"variance = {variance!r}: allowed is 'posterior' or 'beta'")
        self.schedule = schedule
        self.prediction = canonical(prediction)
        self.variance: Variance = variance
        check_prediction(self.prediction, schedule)
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def q_mean_variance(self, x_start: Tensor, t: Tensor) -> Gaussian:
        """Mean and variance of q(x_t | x_0).  T-eq1, K-15, G-31.

        Args:
            x_start: Clean images [B, ...].
            t: Levels, int64 [B], in 0..T.
        """
        levels = t.cpu()
        signal = _like(self.schedule.alpha_bar[levels].sqrt(), x_start)
        variance = _like(self.schedule.one_minus_alpha_bar[levels], x_start)
        return Gaussian(signal * x_start, variance)

    def q_sample(
        self, x_start: Tensor, t: Tensor, noise: Tensor | None = None, *, key: Key | None = None
    ) -> Tensor:
        """Draw x_t from q(x_t | x_0) in one pass.  T-eq1, V-eq1, K-15.

        Args:
            x_start: Clean images [B, ...], float32, float16 or bfloat16, contiguous.
            t: Levels, int64 [B], in 0..T.
            noise: Standard normal noise like x_start, or None to draw it under `key`.
            key: Where the noise is drawn when none is given; its sample indices are [B].

        Returns:
            Noisy images like x_start.

        Raises:
            ValueError: both or neither of noise and key are given, or an argument is unfit.
        """
        signal, sigma = self.tables(x_start.device)
        if noise is not None and key is None:
            return q_sample(x_start, noise, t, signal, sigma)
        if key is not None and noise is None:
            return q_sample_drawn(x_start, t, signal, sigma, key.seed, key.step, key.sample)
        raise ValueError("noise and key: allowed is exactly one of the two")

    def q_posterior_mean_variance(
        self, x_start: Tensor, x_t: Tensor, t: Tensor, s: Tensor | None = None
    ) -> Gaussian:
        """Mean and variance of q(x_s | x_t, x_0).  T-eq2, K-59, V-eq4, G-35.

        Args:
            x_start: Clean images [B, ...].
            x_t: Noisy images [B, ...].
            t: Levels of x_t, int64 [B], in 1..T.
            s: Target levels, int64 [B], below t; None means t - 1.
        """
        levels = (t - 1 if s is None else s).cpu(), t.cpu()
        a, b, variance = (_like(c, x_t) for c in self.schedule.posterior(*levels))
        return Gaussian(a * x_start + b * x_t, variance)

    def predict_xstart(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Clean images that the network's output stands for, not clipped.  T-2.5-eps, K-69.

        Args:
            output: What the network returned, [B, ...].
            x_t: Its input [B, ...].
            t: Its levels, int64 [B], in 1..T.
        """
        k_x, k_out = x0_coefficients(self.schedule, self.prediction, t.cpu())
        return _like(k_x, x_t) * x_t + _like(k_out, x_t) * output

    def p_mean_variance(
        self,
        model: Model,
        x: Tensor,
        t: Tensor,
        s: Tensor | None = None,
        *,
        clip_denoised: bool = True,
        **conditions: Tensor,
    ) -> Reverse:
        """Reverse distribution p(x_s | x_t): the posterior with the estimated clean image.

        The estimate is clipped to [-1, 1] before the mean is formed.  K-65, V-eq8, G-42, L-2.9.

        Args:
            model: The network.
            x: Noisy images [B, ...].
            t: Their levels, int64 [B], in 1..T.
            s: Target levels, int64 [B], below t; None means t - 1.
            clip_denoised: Whether to clip the estimate.
            conditions: Passed to the network.
        """
        pred_xstart = self.predict_xstart(model(x, t, **conditions), x, t)
        if clip_denoised:
            pred_xstart = pred_xstart.clamp(-1, 1)
        target = t - 1 if s is None else s
        mean, variance = self.q_posterior_mean_variance(pred_xstart, x, t, target)
        if self.variance == "beta":
            variance = _like(self.schedule.step_beta(target.cpu(), t.cpu()), x)
        return Reverse(mean, variance, pred_xstart)

    def training_losses(
        self,
        model: Model,
        x_start: Tensor,
        t: Tensor,
        noise: Tensor | None = None,
        *,
        key: Key | None = None,
        weight: Tensor | None = None,
        **conditions: Tensor,
    ) -> Tensor:
        """Weighted mean squared error of the prediction, one number a sample.  K-79, G-41, L-2.12.

        With a key the noise is never stored: the loss draws it again.

        Args:
            model: The network; its output has the shape of x_start.
            x_start: Clean images [B, ...].
            t: Levels, int64 [B], in 1..T.
            noise: Standard normal noise like x_start, or None to draw it under `key`.
            key: Where the noise is drawn when none is given.
            weight: float32 [B], or None for ones.
            conditions: Passed to the network.

        Returns:
            float32 [B].

        Raises:
            ValueError: the prediction is "score" or "mean", or an argument is unfit.
        """
        if self.prediction not in TRAINABLE:
            raise ValueError(
                f"prediction = {self.prediction!r}: allowed for training is one of {TRAINABLE}"
            )
        signal, sigma = self.tables(x_start.device)
        x_t = self.q_sample(x_start, t, noise, key=key)
        output = model(x_t, t, **conditions)
        if weight is None:
            weight = torch.ones(len(x_start), device=x_start.device)
        seed, step, sample = (key.seed, key.step, key.sample) if key else (None, None, None)
        return diffusion_loss(
            output, x_start, noise, t, signal, sigma, weight, seed, step, sample, self.prediction
        )

    def p_sample_loop(
        self,
        model: Model,
        shape: Sequence[int],
        *,
        seed: int,
        samples: Sequence[int] | None = None,
        steps: int | None = None,
        clip_denoised: bool = True,
        device: torch.device | str = "cpu",
        **conditions: Tensor,
    ) -> Tensor:
        """Draw images by the reverse chain.  G-42, V-alg2.

        Args:
            model: The network.
            shape: [B, ...] of the images.
            seed: Key of the random numbers.
            samples: Global index of each image, B integers; None means 0..B-1. Image i of a seed
                is the same picture in any batch.
            steps: Number of network calls, in 1..T; None means T.
            clip_denoised: Whether estimates of the clean image are clipped to [-1, 1].
            device: Where the network lives.
            conditions: Passed to the network.

        Returns:
            float32 [B, ...].

        Raises:
            ValueError: steps is out of range, or samples are not B integers.
        """
        levels = trailing(self.schedule.steps, steps)
        table = ancestral_table(self.schedule, self.prediction, levels, self.variance)
        return self._final(model, shape, seed, samples, table, clip_denoised, device, conditions)

    def ddim_sample_loop(
        self,
        model: Model,
        shape: Sequence[int],
        *,
        seed: int,
        samples: Sequence[int] | None = None,
        steps: int | None = None,
        eta: float = 0.0,
        clip_denoised: bool = True,
        device: torch.device | str = "cpu",
        **conditions: Tensor,
    ) -> Tensor:
        """Draw images by DDIM.  L-2.13, L-tau.

        Arguments as in `p_sample_loop`, and eta in [0, 1]: 0 is deterministic given the seed.
        """
        levels = trailing(self.schedule.steps, steps)
        table = ddim_table(self.schedule, self.prediction, levels, eta)
        return self._final(model, shape, seed, samples, table, clip_denoised, device, conditions)

    @torch.no_grad()
    def sample_progressive(
        self,
        model: Model,
        x: Tensor,
        key: Key,
        table: StepTable,
        *,
        clip_denoised: bool = True,
        **conditions: Tensor,
    ) -> Iterator[State]:
        """Yield the state after every step of a sampler, without waiting for the device.

        Args:
            model: The network.
            x: Images at the first level of the table, [B, ...].
            key: Its seed and sample indices draw the noise of every step.
            table: The sampler.
            clip_denoised: Whether estimates of the clean image are clipped to [-1, 1].
            conditions: Passed to the network.
        """
        levels = [*table.levels.tolist(), 0]
        table = table.to(x.device)
        clip = 1.0 if clip_denoised else 0.0
        rows = torch.arange(len(table.levels), device=x.device)
        for step, row in enumerate(rows):
            output = model(x, table.levels[step].expand(len(x)), **conditions)
            x = sampler_step(
                x, output, table.coefficients, table.levels, row,
                key.seed, key.sample, clip, table.noisy,
            )  # fmt: skip
            yield State(x, levels[step + 1], step + 1, len(rows))

    def calc_bpd_loop(
        self, model: Model, x_start: Tensor, *, levels: int, decoder_std: float, seed: int = 0
    ) -> Iterator[tuple[int, float]]:
        """Yield the terms of the variational bound; see `ddpm.likelihood.calc_bpd_loop`."""
        from ddpm.likelihood import calc_bpd_loop

        return calc_bpd_loop(
            self, model, x_start, levels=levels, decoder_std=decoder_std, seed=seed
        )

    def initial_noise(self, shape: Sequence[int], key: Key) -> Tensor:
        """Standard normal images x_T, float32, drawn from the stream of initial noise.

        Args:
            shape: [B, ...].
            key: Its seed and sample indices [B] determine the images.
        """
        step = torch.zeros_like(key.step)
        return normal(
            key.seed, step, key.sample, Stream.INITIAL_NOISE, list(shape[1:]), torch.float32
        )

    def tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """float32 tables (sqrt(alpha_bar), sqrt(1 - alpha_bar)) on a device, copied there once."""
        if device not in self._tables:
            pair = self.schedule.signal.to(device), self.schedule.sigma.to(device)
            self._tables[device] = pair
        return self._tables[device]

    def _final(
        self,
        model: Model,
        shape: Sequence[int],
        seed: int,
        samples: Sequence[int] | None,
        table: StepTable,
        clip_denoised: bool,
        device: torch.device | str,
        conditions: dict[str, Tensor],
    ) -> Tensor:
        samples = range(shape[0]) if samples is None else samples
        if len(samples) != shape[0]:
            raise ValueError(
                f"samples has {len(samples)} entries: allowed is one for each of {shape[0]} images"
            )
        key = Key.of(seed, samples, device=device)
        x = self.initial_noise(shape, key)
        for state in self.sample_progressive(
            model, x, key, table, clip_denoised=clip_denoised, **conditions
        ):
            x = state.x
        return x


def _like(coefficients: Tensor, x: Tensor) -> Tensor:
    """Per-sample coefficients [B] in x's dtype and on its device, shaped to broadcast over x."""
    column = coefficients.to(device=x.device, dtype=x.dtype)
    return column.reshape(-1, *[1] * (x.dim() - 1))
