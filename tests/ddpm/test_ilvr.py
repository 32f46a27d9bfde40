"""The coarse part of samples: against the reference's algorithm, and as a projection."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError
from ddpm.keys import Key
from ddpm.reference import philox
from ddpm.reference.chain import Chain
from ddpm.reference.forward import q_sample
from ddpm.reference.ilvr import ilvr_sample, low_pass
from ddpm.samplers import ilvr
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.ilvr import Ilvr
from ddpm.samplers.multistep import heun_table
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array
from tests.ddpm.exact import SAMPLING_NOISE, initial
from tests.devices.pretend import GPU, pretend_gpu

CONDITION_NOISE = 10
BETAS = np.array([0.02, 0.05, 0.1, 0.3, 0.5, 0.7])
SCHEDULE = Schedule.from_betas(BETAS.tolist())
DIFFUSION = GaussianDiffusion(SCHEDULE, "eps")
SHAPE, SEED = (5, 2, 6, 4), 3
LEVELS = [6, 5, 3, 2, 0]
TABLES: dict[str, Callable[[], StepTable]] = {
    "ancestral": lambda: ancestral_table(SCHEDULE, "eps", LEVELS, "posterior"),
    "ddim": lambda: ddim_table(SCHEDULE, "eps", LEVELS, 0.0),
    "heun": lambda: heun_table(SCHEDULE, "eps", LEVELS),
}
# Some float32 roundings of numbers up to about 3.
CLOSE = 2e-6


def pictures(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *SHAPE[1:], generator=generator) * 2 - 1


def network(x: Tensor, t: Tensor) -> Tensor:
    return 0.4 * x + (0.1 * t).reshape(-1, 1, 1, 1) * x.roll(1, dims=3).sin()


def noise(stream: int, step: int, samples: list[int]) -> Array:
    size = int(np.prod(SHAPE[1:]))
    drawn = philox.normals(SEED, stream, step, np.array(samples), size)
    return np.asarray(drawn.reshape(len(samples), *SHAPE[1:]))


def states(condition: Ilvr, table: StepTable, samples: list[int]) -> list[tuple[Tensor, int]]:
    key, shape = Key.of(SEED, samples), (len(samples), *SHAPE[1:])
    walk = DIFFUSION.sample_progressive(
        network, DIFFUSION.initial_noise(shape, key), key, table, clip_denoised=False,
        edit=condition.edit(DIFFUSION, shape, key),
    )  # fmt: skip
    return [(state.x, state.t) for state in walk]


@pytest.mark.parametrize("count", [1, 2])
def test_algorithm_of_the_reference_with_the_same_noise(count: int) -> None:
    chain, followed = Chain(BETAS), pictures(count)
    samples = [4, 1, 7]
    start = initial(SEED, np.array(samples), 48).reshape(3, *SHAPE[1:])
    drawn = [noise(SAMPLING_NOISE, t, samples) for t in range(1, 7)]
    reference_noise = np.stack([noise(CONDITION_NOISE, s, samples) for s in range(6)])

    def eps(x: Array, t: int) -> Array:
        return np.asarray(0.4 * x + 0.1 * t * np.sin(np.roll(x, 1, axis=3)))

    want = ilvr_sample(
        chain, eps, followed.numpy()[np.array(samples) % count].astype(float),
        np.stack([*drawn, start]), reference_noise, lambda x: low_pass(x, 2, axes=2),
    )  # fmt: skip
    table = ancestral_table(SCHEDULE, "eps", range(6, -1, -1), "posterior")
    (got, last) = states(Ilvr(followed, 2), table, samples)[-1]
    assert last == 0
    # Six steps, of which one divides by sqrt(1 - 0.7).
    np.testing.assert_allclose(got, want, rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", TABLES)
def test_after_every_step_the_coarse_part_is_that_of_the_reference_at_this_level(name: str) -> None:
    followed, samples, chain = pictures(2), list(range(5)), Chain(BETAS)
    rows = followed.numpy()[np.arange(5) % 2].astype(float)
    found = states(Ilvr(followed, 2), TABLES[name](), samples)
    assert {level for _, level in found} == {5, 3, 2, 0}
    for x, s in found:
        drawn, one_minus = noise(CONDITION_NOISE, s, samples), chain.one_minus_alpha_bar[s]
        want = low_pass(q_sample(rows, chain.alpha_bar[s], drawn, one_minus), 2, axes=2)
        np.testing.assert_allclose(low_pass(x.numpy(), 2, axes=2), want, rtol=0, atol=CLOSE)
        # What is fine is left to the model.
        assert (
            x - ilvr.low_pass(x, 2) - (torch.tensor(rows) - torch.tensor(want))
        ).abs().max() > 0.1
    final = low_pass(found[-1][0].numpy(), 2, axes=2)
    np.testing.assert_allclose(final, low_pass(rows, 2, axes=2), rtol=0, atol=CLOSE)


def test_until_leaves_the_low_levels_to_the_model() -> None:
    followed, samples, table = pictures(1), [0, 1], TABLES["ancestral"]()
    whole, part = (states(Ilvr(followed, 2, until), table, samples) for until in (0, 3))
    for (one, s), (other, _) in zip(whole, part, strict=True):
        assert torch.equal(one, other) == (s >= 3)
    unguided = DIFFUSION.sample_progressive(
        network, part[1][0], Key.of(SEED, samples),
        ancestral_table(SCHEDULE, "eps", LEVELS[2:], "posterior"), clip_denoised=False,
    )  # fmt: skip
    assert torch.equal([state.x for state in unguided][-1], part[-1][0])


def test_a_sample_is_the_same_in_any_batch() -> None:
    condition, table = Ilvr(pictures(3), 2), TABLES["ancestral"]()
    together = states(condition, table, list(range(8)))
    alone = states(condition, table, [7, 2])
    for (x, _), (y, _) in zip(together, alone, strict=True):
        assert torch.equal(x[[7, 2]], y)


def test_noise_of_the_reference_is_not_that_of_the_sampler_and_has_no_step() -> None:
    zero = torch.zeros(1, *SHAPE[1:])
    key = Key.of(SEED, [0, 1])
    edits = [
        Ilvr(zero, 2).edit(DIFFUSION, (2, *SHAPE[1:]), k) for k in (key, Key.of(SEED, [0, 1], 9))
    ]
    x = torch.zeros(2, *SHAPE[1:])
    first, second = (edit(x, 5) for edit in edits)
    assert torch.equal(first, second)
    for stream, same in ((CONDITION_NOISE, True), (SAMPLING_NOISE, False)):
        z = torch.tensor(noise(stream, 5, [0, 1])).float() * SCHEDULE.sigma[5]
        assert torch.allclose(first, ilvr.low_pass(z, 2), rtol=0, atol=CLOSE) == same


def test_no_host_reads() -> None:
    edit_key = Key(*(torch.zeros(n, dtype=torch.int64, device=GPU) for n in ((), (), (2,))))
    condition = Ilvr(pictures(1), 2)
    edit = condition.edit(DIFFUSION, (2, *SHAPE[1:]), edit_key)
    DIFFUSION.tables(GPU)
    with pretend_gpu() as launched:
        x = torch.zeros(2, *SHAPE[1:], device=GPU)
        assert edit(edit(x, 4), 0).shape == x.shape
    assert len(launched) == 2


@pytest.mark.parametrize(
    ("reference", "options", "message"),
    [
        (torch.zeros(1, 4, 4), {}, r"reference is torch.float32 \(1, 4, 4\): allowed"),
        (torch.zeros(0, 1, 4, 4), {}, "reference is"),
        (torch.zeros(1, 1, 4, 4).double(), {}, "torch.float64"),
        (torch.full((1, 1, 4, 4), 1.5), {}, r"reference = 1.5: .*\[-1, 1\]"),
        (torch.full((1, 1, 4, 4), torch.nan), {}, "reference = nan"),
        (torch.full((1, 1, 4, 4), -torch.inf), {}, "reference = inf"),
        (torch.zeros(1, 1, 4, 6), {}, "factor = 4: .* 4 and 6"),
        (torch.zeros(1, 1, 6, 4), {}, "factor = 4"),
        (torch.zeros(1, 1, 4, 4), {"factor": 1}, "factor = 1"),
        (torch.zeros(1, 1, 4, 4), {"factor": 8}, "factor = 8"),
        (torch.zeros(1, 1, 4, 4), {"until": -1}, "until = -1"),
    ],
)
def test_bad_input(reference: Tensor, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Ilvr(reference, **options)


def test_what_does_not_fit_the_samples_is_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(2, 6, 4\): .* \(2, 4, 6\)"):
        Ilvr(pictures(1), 2).check((2, 4, 6))
    key = Key.of(0, range(5))
    with pytest.raises(InputError, match=r"\(1, 6, 4\)"):
        Ilvr(pictures(1), 2).edit(DIFFUSION, (5, 1, 6, 4), key)
    with pytest.raises(InputError, match="until = 6: allowed is 0 to T - 1 = 5"):
        Ilvr(pictures(1), 2, 6).edit(DIFFUSION, SHAPE, key)
