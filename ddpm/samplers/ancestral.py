"""Steps of the reverse chain, which is drawn by ancestral sampling."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddpm.predictions import Prediction
from ddpm.samplers.tables import StepTable, pairs, step_table
from ddpm.samplers.variances import Variance, fixed_variance, learned_columns, learned_form
from ddpm.schedule import Schedule


def ancestral_table(
    schedule: Schedule,
    prediction: Prediction,
    levels: Sequence[int],
    variance: Variance,
    error: Tensor | None = None,
) -> StepTable:
    """Steps of the reverse chain.  G-42, G-44, V-alg2, T-2.5-var1, T-2.5-var2, T-2.5-opt, T-fn24.

    On a subsequence beta is the noise between the two levels, not an entry of the training table.
    The last step, to level 0, returns the mean: under "beta" the noise left there would be beta_1.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.
        variance: "posterior" for that of q(x_s | x_t, x_0), "beta" for that of q(x_t | x_s);
            "learned" for beta^raw posterior^(1 - raw), "learned_range" for the same with
            (raw + 1) / 2 in place of raw, "learned_sigmoid" for the share sigmoid(raw) of beta;
            "optimal" for the best constant of each step.
        error: float64 [T + 1], mean squared error of x0_hat per dimension at each level; for
            "optimal" only.

    Raises:
        ValueError: the levels, the variance or the error are not allowed.
    """
    t, s = pairs(schedule, levels)
    a, b, _ = schedule.posterior(s, t)
    form = learned_form(variance)
    if form == "none":
        v, sd = None, fixed_variance(schedule, s, t, variance, error).sqrt()
    else:
        v0, v1 = learned_columns(schedule, s, t, variance)
        # A last step without noise must not meet the exponential of any number.
        v, sd = (torch.where(s > 0, v0, 0.0), torch.where(s > 0, v1, 0.0)), torch.ones_like(a)
    sd = torch.where(s > 0, sd, 0.0)
    return step_table(schedule, prediction, levels, a, b, sd=sd, v=v, learned=form)
