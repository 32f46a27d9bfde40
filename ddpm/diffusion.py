"""Gaussian diffusion: noising, losses and reverse steps of one schedule and one prediction.

The method names are those that users of other libraries know. Levels run t = 0..T with 0 the clean
data, images lie in [-1, 1], and every random number is a function of a `Key`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddpm.kernels.normal import normal
from ddpm.kernels.q_sample import q_sample, q_sample_drawn
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.objectives import Loss, Objective
from ddpm.predictions import canonical, check_prediction, x0_coefficients
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.levels import trailing
from ddpm.samplers.loop import Edit, Guidance, State, sample_progressive, tensor_of
from ddpm.samplers.loop import Model as Model
from ddpm.samplers.tables import StepTable
from ddpm.samplers.variances import (
    Variance,
    check_error,
    check_variance,
    fixed_variance,
    learned_columns,
    learned_form,
)
from ddpm.schedule import Schedule


class Gaussian(NamedTuple):
    """Mean and variance of a Gaussian, broadcast against each other."""

    mean: Tensor
    variance: Tensor


class Reverse(NamedTuple):
    """One reverse distribution p(x_s | x_t) and the clean image it was built from."""

    mean: Tensor
    variance: Tensor
    pred_xstart: Tensor


class GaussianDiffusion:
    """The forward process, its losses and its reverse process.

    Args:
        schedule: The noise schedule, T levels.
        prediction: What the network outputs: "eps", "x0", "v", "score" or "mean", or a name that
            another library uses for one of them.
        variance: Variance of the reverse steps, see `ddpm.samplers.ancestral_table`. Where it is
            learned, the network returns twice the channels: the prediction, then the raw values.
        error: Mean squared error of the estimated clean image at each level, float64 [T + 1]; for
            the variance "optimal" only.
        weighting: See `ddpm.objectives.Loss`, and so the rest.
        objective: "simple" where the variance is fixed, "hybrid" or "vlb" where it is learned;
            None for the first that is allowed.
        bound_rate: Share of the bound in the hybrid loss.
        grey_levels: Number of grey levels of the images.

    Raises:
        ValueError: the prediction is unknown or cannot work under the schedule, or another argument
            is not allowed.
    """

    def __init__(
        self,
        schedule: Schedule,
        prediction: str = "eps",
        variance: Variance = "posterior",
        *,
        error: Tensor | None = None,
        weighting: str | Tensor = "simple",
        objective: Objective | None = None,
        bound_rate: float = 0.001,
        grey_levels: int = 256,
    ) -> None:
        check_variance(variance)
        check_error(schedule, variance, error)
        self.schedule = schedule
        self.prediction = canonical(prediction)
        self.variance: Variance = variance
        self.learned = learned_form(variance)
        self.error = error
        check_prediction(self.prediction, schedule)
        self.loss = Loss(
            schedule, self.prediction, variance, weighting, objective, bound_rate, grey_levels
        )

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
            output: What the network returned, [B, ...], or [B, 2 C, ...] with a learned variance.
            x_t: Its input [B, ...].
            t: Its levels, int64 [B], in 1..T.
        """
        prediction = output if self.learned == "none" else output.chunk(2, dim=1)[0]
        k_x, k_out = x0_coefficients(self.schedule, self.prediction, t.cpu())
        return _like(k_x, x_t) * x_t + _like(k_out, x_t) * prediction

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
        output = tensor_of(model(x, t, **conditions))
        pred_xstart = self.predict_xstart(output, x, t)
        if clip_denoised:
            pred_xstart = pred_xstart.clamp(-1, 1)
        target = t - 1 if s is None else s
        mean, _ = self.q_posterior_mean_variance(pred_xstart, x, t, target)
        return Reverse(mean, self._variance(output, x, target.cpu(), t.cpu()), pred_xstart)

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
        """Loss of the objective, one number a sample.  K-79, G-41, G-45, L-2.12.

        With a key the noise is never stored: the loss draws it again.

        Args:
            model: The network.
            x_start: Clean images [B, ...].
            t: Levels, int64 [B], in 1..T.
            noise: Standard normal noise like x_start, or None to draw it under `key`.
            key: Where the noise is drawn when none is given.
            weight: float32 [B], a factor of each sample's loss, or None for ones.
            conditions: Passed to the network.

        Returns:
            float32 [B].

        Raises:
            ValueError: the prediction is "mean", or an argument is unfit.
        """
        self.loss.check_trainable()
        x_t = self.q_sample(x_start, t, noise, key=key)
        return self.loss(tensor_of(model(x_t, t, **conditions)), x_start, noise, t, key, weight)

    def p_sample_loop(
        self,
        model: Model,
        shape: Sequence[int],
        *,
        seed: int,
        steps: int | None = None,
        **options: Any,
    ) -> Tensor:
        """Draw images by the reverse chain.  G-42, V-alg2.

        Args:
            model: The network.
            shape: [B, ...] of the images.
            seed: Key of the random numbers.
            steps: Number of network calls, in 1..T; None means T.
            options: As in `sample_loop`, the conditions of the network among them.

        Returns:
            float32 [B, ...].

        Raises:
            ValueError: steps is out of range, or an option does not fit.
        """
        levels = trailing(self.schedule.steps, steps)
        table = ancestral_table(self.schedule, self.prediction, levels, self.variance, self.error)
        return self.sample_loop(model, shape, table, seed=seed, **options)

    def ddim_sample_loop(
        self,
        model: Model,
        shape: Sequence[int],
        *,
        seed: int,
        steps: int | None = None,
        eta: float = 0.0,
        **options: Any,
    ) -> Tensor:
        """Draw images by DDIM.  L-2.13, L-tau.

        Arguments as in `p_sample_loop`, and eta in [0, 1]: 0 is deterministic given the seed.
        """
        levels = trailing(self.schedule.steps, steps)
        table = ddim_table(self.schedule, self.prediction, levels, eta)
        return self.sample_loop(model, shape, table, seed=seed, **options)

    def sample_loop(
        self,
        model: Model,
        shape: Sequence[int],
        table: StepTable,
        *,
        seed: int,
        samples: Sequence[int] | None = None,
        clip_denoised: bool = True,
        threshold_ratio: float | None = None,
        guidance: Guidance | None = None,
        edit: Edit | None = None,
        device: torch.device | str = "cpu",
        **conditions: Any,
    ) -> Tensor:
        """Draw images by any sampler.

        Args:
            model: The network.
            shape: [B, ...] of the images.
            table: The sampler, for the schedule and the prediction of this process.
            seed: Key of the random numbers.
            samples: Global index of each image, B integers; None means 0..B-1. Image i of a seed
                is the same picture in any batch.
            clip_denoised: Whether estimates of the clean image are clipped to [-1, 1].
            threshold_ratio: Quantile of dynamic thresholding, or None; see
                `ddpm.samplers.loop.sample_progressive`.
            guidance: Classifier-free guidance, or None.
            edit: What is done with the images after every step, or None.
            device: Where the network lives.
            conditions: Passed to the network.

        Returns:
            float32 [B, ...].

        Raises:
            ValueError: samples are not B integers, or an option does not fit.
        """
        samples = range(shape[0]) if samples is None else samples
        if len(samples) != shape[0]:
            raise ValueError(
                f"samples has {len(samples)} entries: allowed is one for each of {shape[0]} images"
            )
        key = Key.of(seed, samples, device=device)
        x = self.initial_noise(shape, key)
        for state in self.sample_progressive(
            model, x, key, table, clip_denoised=clip_denoised, threshold_ratio=threshold_ratio,
            guidance=guidance, edit=edit, **conditions,
        ):  # fmt: skip
            x = state.x
        return x

    def sample_progressive(
        self,
        model: Model,
        x: Tensor,
        key: Key,
        table: StepTable,
        *,
        clip_denoised: bool = True,
        threshold_ratio: float | None = None,
        guidance: Guidance | None = None,
        edit: Edit | None = None,
        **conditions: Any,
    ) -> Iterator[State]:
        """Yield the state after every step, see `ddpm.samplers.loop.sample_progressive`."""
        return sample_progressive(
            model, x, key, table, conditions, clip_denoised=clip_denoised,
            threshold_ratio=threshold_ratio, guidance=guidance, learned=self.learned, edit=edit,
        )  # fmt: skip

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
        return self.loss.tables(device)[:2]

    def _variance(self, output: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Variance of p(x_s | x_t), one a sample, or where it is learned one an element."""
        if self.learned == "none":
            fixed = fixed_variance(self.schedule, s, t, self.variance, self.error)
            return _like(fixed, x)
        raw = output.chunk(2, dim=1)[1]
        columns = learned_columns(self.schedule, s, t, self.variance)
        v0, v1 = (_like(column, x) for column in columns)
        if self.learned == "sigmoid":
            return v0 + v1 * raw.sigmoid()
        return torch.exp(2 * (v0 + v1 * raw))


def _like(coefficients: Tensor, x: Tensor) -> Tensor:
    """Per-sample coefficients [B] in x's dtype and on its device, shaped to broadcast over x."""
    column = coefficients.to(device=x.device, dtype=x.dtype)
    return column.reshape(-1, *[1] * (x.dim() - 1))
