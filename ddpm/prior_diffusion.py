"""Training and sampling towards a prior: what goes in and what comes out are images x.

The process, the network and the samplers are those of the whitened images y of `ddpm.prior`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion, Model
from ddpm.kernels.normal import normal
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.predictions import x0_coefficients
from ddpm.prior import Prior
from ddpm.samplers.loop import Guidance, State, caller, sample_progressive
from ddpm.samplers.tables import StepTable


@dataclass(frozen=True, eq=False)
class PriorDiffusion:
    """A process that diffuses towards a prior; what goes in and what comes out are images x.

    Attributes:
        prior: Where the noise ends.
    """

    prior: Prior

    def training_losses(
        self,
        diffusion: GaussianDiffusion,
        model: Model,
        x_start: Tensor,
        t: Tensor,
        noise: Tensor | None = None,
        *,
        key: Key | None = None,
        weight: Tensor | None = None,
        prior_labels: Tensor | None = None,
        **conditions: Tensor,
    ) -> Tensor:
        """Loss of each image, float32 [B]: the plain one of whitened images.  G-50.

        Args:
            diffusion: The process in y; its variance is fixed, see `check_fixed`.
            model: Network of whitened images.
            x_start: Clean images [B, ...].
            t: As in `GaussianDiffusion.training_losses`, and so the rest.
            noise: Standard normal noise.
            key: Where the noise is drawn when none is given.
            weight: Factor of each loss.
            prior_labels: Classes for a prior by class; the network's own are among the conditions.
            conditions: Passed to the network.

        Raises:
            ValueError: an argument is unfit.
        """
        check_fixed(diffusion)
        y = self.prior.whiten(x_start, prior_labels)
        return diffusion.training_losses(
            model, y, t, noise, key=key, weight=weight, **conditions
        )  # fmt: skip

    def initial(self, shape: Sequence[int], key: Key, prior_labels: Tensor | None = None) -> Tensor:
        """Draw images x_T from the prior, float32, from the stream of initial noise.  G-49-sample.

        Args:
            shape: [B, ...].
            key: Its seed and sample indices [B] determine the images.
            prior_labels: int64 [B] for a prior by class.
        """
        step, size = torch.zeros_like(key.step), list(shape[1:])
        y = normal(key.seed, step, key.sample, Stream.INITIAL_NOISE, size, torch.float32)
        return self.prior.restore(y, prior_labels)

    @torch.no_grad()
    def sample_progressive(
        self,
        diffusion: GaussianDiffusion,
        model: Model,
        x: Tensor,
        key: Key,
        table: StepTable,
        *,
        clip_denoised: bool = True,
        guidance: Guidance | None = None,
        prior_labels: Tensor | None = None,
        **conditions: Any,
    ) -> Iterator[State]:
        """Yield the state after every step of a sampler, as images x.  G-49-sample.

        The range [-1, 1] of x is another in y for each pixel, and steps clip to one range for all.
        So with clip_denoised the network's output is turned into the clean image, after guidance,
        and that is clipped and handed to the steps as what the network predicts.

        Args:
            diffusion: The process in y.
            model: Network of whitened images.
            x: Images at the first level of the table, as `initial` draws them.
            key: Its seed and sample indices draw the noise of every step.
            table: The sampler, for the schedule and the prediction of this process.
            clip_denoised: Whether estimates of the clean image are clipped to [-1, 1].
            guidance: Classifier-free guidance, or None.
            prior_labels: int64 [B] for a prior by class.
            conditions: Passed to the network.

        Raises:
            ValueError: an argument is unfit.
        """
        prior = self.prior.to(x.device)
        y, given = prior.whiten(x, prior_labels), conditions
        if clip_denoised:
            call = caller(model, guidance, conditions, len(x))
            low, high = (prior.whiten(torch.full_like(x, edge), prior_labels) for edge in (-1, 1))
            model = _Clipped(diffusion, call, guidance, low, high)
            guidance, given, table = None, {}, _of_clean_images(table)
        for state in sample_progressive(
            model, y, key, table, given, clip_denoised=False, guidance=guidance,
            learned=diffusion.learned,
        ):  # fmt: skip
            yield replace(state, x=prior.restore(state.x, prior_labels))


class _Clipped:
    """The clean image that a network sees, within bounds, in place of its output."""

    def __init__(
        self,
        diffusion: GaussianDiffusion,
        call: Any,
        guidance: Guidance | None,
        low: Tensor,
        high: Tensor,
    ) -> None:
        self._call, self._low, self._high = call, low, high
        self._learned = diffusion.learned != "none"
        self._scale: float | Tensor = 1.0 if guidance is None else guidance.guidance_scale
        if isinstance(self._scale, Tensor):
            self._scale = self._scale.to(low.device).reshape(-1, *[1] * (low.dim() - 1))
        levels = torch.arange(1, diffusion.schedule.steps + 1)
        pairs = torch.stack(x0_coefficients(diffusion.schedule, diffusion.prediction, levels))
        # Indexed on the device by the level, of which 0 has no estimate.
        self._coefficients = torch.cat([torch.zeros(2, 1), pairs.float()], dim=1).to(low.device)

    def __call__(self, y: Tensor, t: Tensor) -> Tensor:
        # Selected on the device; as an index a tensor without dimensions would be read by the host.
        k_y, k_out = self._coefficients.index_select(1, t[:1])
        output, uncond = self._call(y, t[0])
        pred, *raw = output.chunk(2, dim=1) if self._learned else (output,)
        if uncond is not None:
            other = uncond.chunk(2, dim=1)[0] if self._learned else uncond
            pred = other + self._scale * (pred - other)
        clean = (k_y * y + k_out * pred).clamp(self._low, self._high)
        return torch.cat([clean, *raw], dim=1)


def _of_clean_images(table: StepTable) -> StepTable:
    """The same sampler for a network that predicts the clean image."""
    rows = table.coefficients.clone()
    rows[:, 0], rows[:, 1] = 0.0, 1.0
    return replace(table, coefficients=rows)


def check_fixed(diffusion: GaussianDiffusion) -> None:
    """Refuse learned variances: their loss cuts the grey levels of y, which are no even grid.

    Raises:
        ValueError: naming the variance and what is allowed.
    """
    if diffusion.learned != "none":
        raise ValueError(
            f"variance = {diffusion.variance!r}: allowed with a prior is a fixed variance"
        )
