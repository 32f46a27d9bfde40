"""The bound's terms image by image: their means are the terms, and no image sees another."""

import pytest
import torch
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.likelihood import (
    calc_bpd_loop,
    decoder_bits_per_image,
    level_bits_per_image,
    prior_bits,
    prior_bits_per_image,
)
from ddpm.samplers.variances import Variance
from ddpm.schedule import Schedule


def test_terms_of_the_bound_of_each_image() -> None:
    schedule = Schedule.log_snr_linear(5, 4.0, -4.0)
    x0 = torch.linspace(-2, 2, 300).sin().mul(2).round().div(2).view(-1, 1, 2, 1)
    variances: tuple[Variance, ...] = ("posterior", "learned_range")
    for variance in variances:
        diffusion = GaussianDiffusion(schedule, "x0", variance, grey_levels=5)
        std = 0.1 if variance == "posterior" else None

        def network(x: Tensor, _: Tensor, learned: bool = std is None) -> Tensor:
            return torch.cat([x.tanh(), 0.3 * x], dim=1) if learned else x.tanh()

        terms = dict(calc_bpd_loop(diffusion, network, x0, levels=5, decoder_std=std))
        for t in (2, 5):
            each = level_bits_per_image(diffusion, network, x0, t, 0)
            assert each.shape == (150,)
            assert each.dtype == torch.float64
            assert float(each.mean()) == pytest.approx(terms[t], rel=1e-12)
            few = level_bits_per_image(diffusion, network, x0[:7], t, 0)
            torch.testing.assert_close(few, each[:7], rtol=1e-6, atol=1e-9)
        decoder = decoder_bits_per_image(diffusion, network, x0, levels=5, std=std, seed=0)
        assert float(decoder.mean()) == pytest.approx(terms[1], rel=1e-12)
        assert float(decoder.std()) > 0
        prior = prior_bits_per_image(diffusion, x0)
        assert float(prior.mean()) == pytest.approx(prior_bits(diffusion, x0), rel=1e-12)
        first = float(prior_bits_per_image(diffusion, x0[:1])[0])
        assert first == pytest.approx(float(prior[0]), rel=1e-12)
