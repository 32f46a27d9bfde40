"""Samples that agree with a picture where it is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError, check
from ddpm.keys import Key
from ddpm.predictions import Prediction
from ddpm.samplers.levels import check_levels
from ddpm.samplers.loop import Edit
from ddpm.samplers.pictures import Following, followed, noisy
from ddpm.samplers.tables import StepTable, step_table
from ddpm.samplers.variances import FixedVariance, fixed_variance
from ddpm.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Inpainting(Following):
    """Pictures that are known in part; the sampler fills in the rest.

    After a step to level s known pixels become those of the reference at level s, drawn from
    q(y_s | y); at the end they are the reference's own. Song et al. (2021), "Score-based generative
    modeling", section I.2; Lugmayr et al. (2022), "RePaint", equation (8).

    This replacement is not exact: the rest does not follow its conditional distribution given what
    is known, however many steps are taken. A step sees the known pixels with fresh noise, and what
    it has filled in is not drawn again when that noise falls. Of two numbers of unit variance and
    correlation 0.9 the second should have mean 0.9 times the first and variance 0.19; a thousand
    ancestral steps give 0.63 and 0.31. `resampled_table` comes nearer for more network calls: with
    10 at a level 0.88 and 0.20.

    Attributes:
        reference: float32 [N, C, H, W] in [-1, 1]; picture i of a run follows row i % N. Values
            where it is not known are not read.
        mask: bool [N or 1, C or 1, H, W], True where a pixel is known.

    Raises:
        InputError: naming what is not allowed.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        count, channels, *size = self.reference.shape
        shape = tuple(self.mask.shape)
        fits = len(shape) == 4 and shape[0] in (1, count) and shape[1] in (1, channels)
        if self.mask.dtype != torch.bool or not fits or list(shape[2:]) != size:
            raise InputError(
                f"mask is {self.mask.dtype} {shape}: allowed is torch.bool "
                f"[{count} or 1, {channels} or 1, {size[0]}, {size[1]}]"
            )

    def edit(self, diffusion: GaussianDiffusion, shape: Sequence[int], key: Key) -> Edit:
        """What is done after every step of a sampler; see `ddpm.samplers.loop.Edit`.

        Args:
            diffusion: The process.
            shape: [B, C, H, W] of the samples.
            key: Their seed and sample indices [B], which the noise of the reference depends on.

        Raises:
            InputError: the samples have another shape.
        """
        self.check(shape[1:])
        clean, known = followed(self.reference, key), followed(self.mask, key)
        return lambda x, s: torch.where(known, noisy(diffusion, clean, s, key), x)


def resampled_table(
    schedule: Schedule,
    prediction: Prediction,
    levels: Sequence[int],
    resamplings: int,
    variance: FixedVariance = "posterior",
) -> StepTable:
    """Ancestral steps that visit each level several times, so that new parts fit the known ones.

    Lugmayr et al. (2022), algorithm 1 with jumps of one step: draw x_s, noise it back to x_t, and
    so on. Down and back up is one row here, x_t <- kept (a x0_hat + b x_t + sd z) + sqrt(beta) z',
    and one call of the network; the known pixels of x_s, which are replaced before the jump in the
    paper, are replaced at level t after it, which has the same distribution. They keep their noise
    at all visits of a level.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.
        resamplings: Visits of each level but the last, at least 1; 1 is ancestral sampling.
        variance: "posterior" or "beta", see `ddpm.samplers.ancestral.ancestral_table`.

    Raises:
        ValueError: an argument is not allowed.
    """
    check(resamplings >= 1, "resamplings", resamplings, "at least 1")
    check(variance in get_args(FixedVariance), "variance", variance, "posterior or beta")
    check_levels(levels, schedule.steps)
    visits = [
        (t, s, visit) for t, s in pairwise(levels) for visit in range(resamplings if s else 1)
    ]
    t, s, visit = torch.tensor(visits, dtype=torch.int64).unbind(1)
    a, b, _ = schedule.posterior(s, t)
    noise = torch.where(s > 0, fixed_variance(schedule, s, t, variance), 0.0)
    # All visits but the last go back up.
    back = (s > 0) & (visit < resamplings - 1)
    kept = torch.where(back, (schedule.alpha_bar[t] / schedule.alpha_bar[s]).sqrt(), 1.0)
    noise = kept.square() * noise + torch.where(back, schedule.step_beta(s, t), 0.0)
    # Every row draws noise of its own, the first at a level that of an ancestral step.
    draws = t + (schedule.steps + 1) * visit
    path = [*t.tolist(), 0]
    return step_table(schedule, prediction, path, kept * a, kept * b, sd=noise.sqrt(), draws=draws)
