"""Known pixels stay, and what replacement makes of the others is what its moments say."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm.analytic import GaussianMixture
from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError
from ddpm.keys import Key
from ddpm.reference import philox
from ddpm.reference.chain import Chain
from ddpm.reference.forward import q_sample
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.inpainting import Inpainting, resampled_table
from ddpm.samplers.levels import trailing
from ddpm.samplers.multistep import heun_table
from ddpm.samplers.tables import StepTable
from ddpm.samplers.variances import FixedVariance
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array
from tests.devices.pretend import GPU, pretend_gpu

CONDITION_NOISE, SEED = 10, 5
SCHEDULE = Schedule.log_snr_linear(100, 9.2, -9.2)
DIFFUSION = GaussianDiffusion(SCHEDULE, "eps")
MASK = torch.tensor([[True, False]]).view(1, 1, 1, 2)
CORRELATION = 0.9


def pair() -> GaussianMixture:
    return GaussianMixture(
        [1.0], [[0.0, 0.0]], torch.tensor([[[1.0, CORRELATION], [CORRELATION, 1.0]]])
    )


def drawn(table: StepTable, known: float, count: int) -> Tensor:
    """Second numbers of pairs whose first is known."""
    reference, network = torch.full((1, 1, 1, 2), known), pair().network(SCHEDULE, "eps")
    reference[..., 1] = 0.123
    shape, key = (count, 1, 1, 2), Key.of(SEED, range(count))
    edit = Inpainting(reference, MASK).edit(DIFFUSION, shape, key)
    x = DIFFUSION.sample_loop(network, shape, table, seed=SEED, clip_denoised=False, edit=edit)
    assert torch.equal(x[..., 0], reference[..., 0].expand(count, 1, 1))
    return x[:, 0, 0, 1].double()


def moments(levels: list[int], times: int, variance: FixedVariance) -> tuple[float, float]:
    """Mean (for a known 1) and variance of the second, by the moments of every single step.

    As the paper puts it: down to s, the known number replaced there, back up to t with noise. The
    known numbers here have new noise at every visit.
    """
    bar = SCHEDULE.alpha_bar.numpy()
    covariance = np.array([[1, CORRELATION], [CORRELATION, 1]])
    mean, spread = np.zeros(2), np.eye(2)
    for t, s in pairwise(levels):
        kept = bar[t] / bar[s]
        beta = 1 - kept
        posterior = beta * (1 - bar[s]) / (1 - bar[t])
        denoise = np.sqrt(bar[t]) * covariance
        denoise = denoise @ np.linalg.inv(bar[t] * covariance + (1 - bar[t]) * np.eye(2))
        step = np.sqrt(bar[s]) * beta / (1 - bar[t]) * denoise
        step += np.sqrt(kept) * (1 - bar[s]) / (1 - bar[t]) * np.eye(2)
        fresh = (posterior if variance == "posterior" else beta) if s else 0.0
        for visit in range(times if s else 1):
            mean, spread = step @ mean, step @ spread @ step.T + fresh * np.eye(2)
            mean[0], spread[0, 0] = np.sqrt(bar[s]), 1 - bar[s]
            spread[0, 1] = spread[1, 0] = 0
            if s and visit < times - 1:
                mean, spread = np.sqrt(kept) * mean, kept * spread + beta * np.eye(2)
    return float(mean[1]), float(spread[1, 1])


@pytest.mark.parametrize(
    ("times", "variance", "steps"),
    [(1, "posterior", 100), (1, "beta", 20), (3, "posterior", 50), (3, "beta", 50)],
)
def test_replacement_has_the_moments_of_its_steps(
    times: int, variance: FixedVariance, steps: int
) -> None:
    levels, known, count = trailing(100, steps), 0.8, 20_000
    found = drawn(resampled_table(SCHEDULE, "eps", levels, times, variance), known, count)
    mean, spread = moments(levels, times, variance)
    # Noise that is kept at all visits changes a variance by about a hundredth of itself.
    slack = 0.0 if times == 1 else 0.012
    assert abs(found.mean() - known * mean) < 4 * np.sqrt(spread / count) + slack * 0.2
    assert abs(found.var() / spread - 1) < 4 * np.sqrt(2 / count) + slack


def test_replacement_is_not_exact_and_resampling_is_nearer() -> None:
    """The figures of the docstring, at a hundred levels."""
    exact = CORRELATION, 1 - CORRELATION**2
    levels = trailing(100, 100)
    once, often = (moments(levels, times, "posterior") for times in (1, 10))
    assert once == pytest.approx((0.61, 0.30), abs=0.005)
    assert often == pytest.approx((0.88, 0.18), abs=0.005)
    found = drawn(resampled_table(SCHEDULE, "eps", levels, 10), 0.8, 2000)
    for value, right, first in zip((found.mean() / 0.8, found.var()), exact, once, strict=True):
        assert abs(value - right) < abs(first - right) / 5


def test_a_visit_keeps_the_law_of_noisy_points() -> None:
    """For data at one point m the posterior is exact: N(alpha_t m, sigma_t^2) goes to itself."""
    table = resampled_table(SCHEDULE, "x0", [100, 60, 30, 0], 2)
    for row, t in ((0, 100), (2, 60)):
        _, _, a, b, _, sd, *_ = table.exact[row]
        signal, variance = SCHEDULE.alpha_bar[t].sqrt(), SCHEDULE.one_minus_alpha_bar[t]
        torch.testing.assert_close(a + b * signal, signal, rtol=1e-12, atol=0)
        torch.testing.assert_close(b**2 * variance + sd**2, variance, rtol=1e-12, atol=0)


def test_visits_are_ancestral_steps_and_draw_noise_of_their_own() -> None:
    levels = [100, 60, 30, 0]
    plain = ancestral_table(SCHEDULE, "v", levels, "beta")
    once = resampled_table(SCHEDULE, "v", levels, 1, "beta")
    assert torch.equal(plain.coefficients, once.coefficients)
    assert (once.path, once.draws.tolist()) == (plain.path, plain.draws.tolist())
    many = resampled_table(SCHEDULE, "v", levels, 3, "beta")
    assert many.path == (100, 100, 100, 60, 60, 60, 30, 0)
    assert len(set(many.draws.tolist())) == 7
    assert torch.equal(many.coefficients[[2, 5, 6]], plain.coefficients)
    flat = Schedule.from_betas([0.1, 0.2, 1.0])
    assert bool(resampled_table(flat, "x0", [3, 1, 0], 4).coefficients.isfinite().all())


@pytest.mark.parametrize(
    "table",
    [
        heun_table(SCHEDULE, "eps", [100, 70, 20, 3, 0]),
        ancestral_table(SCHEDULE, "eps", [100, 70, 20, 3, 0], "posterior"),
    ],
    ids=["heun", "ancestral"],
)
def test_known_pixels_are_the_reference_at_every_level(table: StepTable) -> None:
    generator = torch.Generator().manual_seed(1)
    reference = torch.rand(2, 2, 3, 2, generator=generator) * 2 - 1
    masks = torch.rand(2, 2, 3, 2, generator=generator) < 0.5
    samples, chain = (
        [3, 0, 8],
        Chain(1 - (SCHEDULE.alpha_bar[1:] / SCHEDULE.alpha_bar[:-1]).numpy()),
    )
    rows, key, shape = [1, 0, 0], Key.of(SEED, samples), (3, 2, 3, 2)
    for mask in (masks, masks[:1], masks[:, :1], masks[:1, :1]):
        edit = Inpainting(reference, mask).edit(DIFFUSION, shape, key)
        start = DIFFUSION.initial_noise(shape, key)
        known = mask.expand_as(reference)[rows]
        for state in DIFFUSION.sample_progressive(
            lambda x, t: 0.5 * x + 0.001 * t.view(-1, 1, 1, 1), start, key, table, edit=edit
        ):
            z = philox.normals(SEED, CONDITION_NOISE, state.t, np.array(samples), 12)
            want: Array = q_sample(
                reference[rows].double().numpy(), chain.alpha_bar[state.t],
                z.reshape(shape), chain.one_minus_alpha_bar[state.t],
            )  # fmt: skip
            np.testing.assert_allclose(state.x[known], want[known], rtol=0, atol=2e-6)
            assert (state.x[~known] - torch.tensor(want)[~known]).abs().min() > 1e-5
        assert torch.equal(state.x[known], reference[rows][known])


def test_a_sample_is_the_same_in_any_batch_and_unknown_values_are_not_read() -> None:
    table = ancestral_table(SCHEDULE, "eps", trailing(100, 5), "posterior")
    network = pair().network(SCHEDULE, "eps")
    reference = torch.tensor([0.3, 0.9, -0.5, 0.1]).view(2, 1, 1, 2)
    other = reference.clone()
    other[..., 1] = -1.0

    def run(pictures: Tensor, samples: list[int]) -> Tensor:
        shape, key = (len(samples), 1, 1, 2), Key.of(SEED, samples)
        edit = Inpainting(pictures, MASK).edit(DIFFUSION, shape, key)
        return DIFFUSION.sample_loop(network, shape, table, seed=SEED, samples=samples, edit=edit)

    together = run(reference, list(range(6)))
    assert torch.equal(run(reference, [5, 2]), together[[5, 2]])
    assert torch.equal(run(other, list(range(6))), together)
    assert together[5, 0, 0, 0] == -0.5


def test_no_host_reads() -> None:
    key = Key(*(torch.zeros(n, dtype=torch.int64, device=GPU) for n in ((), (), (2,))))
    edit = Inpainting(torch.zeros(1, 1, 1, 2), MASK).edit(DIFFUSION, (2, 1, 1, 2), key)
    DIFFUSION.tables(GPU)
    with pretend_gpu() as launched:
        x = torch.zeros(2, 1, 1, 2, device=GPU)
        assert edit(edit(x, 4), 0).shape == x.shape
    assert len(launched) == 2


@pytest.mark.parametrize(
    ("reference", "mask", "message"),
    [
        (
            torch.zeros(2, 3, 4, 4),
            MASK,
            r"mask is torch.bool \(1, 1, 1, 2\): .*\[2 or 1, 3 or 1, 4",
        ),
        (torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4), "mask is torch.float32"),
        (torch.zeros(2, 3, 4, 4), torch.ones(3, 3, 4, 4).bool(), "mask is"),
        (torch.zeros(2, 3, 4, 4), torch.ones(2, 2, 4, 4).bool(), "mask is"),
        (torch.zeros(2, 3, 4, 4), torch.ones(4, 4).bool(), "mask is"),
        (torch.full((1, 1, 1, 2), -2.0), MASK, "reference = 2.0"),
    ],
)
def test_bad_input(reference: Tensor, mask: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Inpainting(reference, mask)


def test_what_does_not_fit_is_refused() -> None:
    condition = Inpainting(torch.zeros(1, 1, 1, 2), MASK)
    with pytest.raises(InputError, match=r"\(1, 2, 1\)"):
        condition.check((1, 2, 1))
    with pytest.raises(InputError, match=r"\(1, 2, 1\)"):
        condition.edit(DIFFUSION, (1, 1, 2, 1), Key.of(0, [0]))
    with pytest.raises(ValueError, match="resamplings = 0"):
        resampled_table(SCHEDULE, "eps", [9, 0], 0)
    with pytest.raises(ValueError, match="variance = 'learned'"):
        resampled_table(SCHEDULE, "eps", [9, 0], 2, "learned")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="levels"):
        resampled_table(SCHEDULE, "eps", [9, 1], 2)
