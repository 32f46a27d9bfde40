"""What a sampling loop does besides stepping: guidance, thresholds, learned variances, history."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.reference import philox
from ddpm.reference.chain import Chain
from ddpm.reference.posterior import posterior_mean_variance
from ddpm.reference.variances import log_interpolated_variance, sigmoid_variance
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.levels import trailing
from ddpm.samplers.loop import Guidance
from ddpm.samplers.multistep import dpm_solver_table, heun_table
from ddpm.samplers.sde import euler_maruyama_table
from ddpm.samplers.tables import StepTable
from ddpm.samplers.variances import LearnedVariance, Variance
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, moderate_betas, seeds
from tests.ddpm.exact import SAMPLING_NOISE, exact_network, gain, initial

# A dozen float32 roundings, grown by weights of up to 16 and forgotten by the chain.
FLOAT32_CHAIN = 1e-4
LEARNED: st.SearchStrategy[LearnedVariance] = st.sampled_from(get_args(LearnedVariance))
SCHEDULE = Schedule.log_snr_linear(12, 5.0, -5.0)
LEVELS = trailing(12, 5)
TABLES: dict[str, Callable[[], StepTable]] = {
    "ancestral": lambda: ancestral_table(SCHEDULE, "v", LEVELS, "posterior"),
    "ddim": lambda: ddim_table(SCHEDULE, "v", LEVELS, 0.0),
    "dpm_solver": lambda: dpm_solver_table(SCHEDULE, "v", LEVELS),
    "heun": lambda: heun_table(SCHEDULE, "v", LEVELS),
    "euler_maruyama": lambda: euler_maruyama_table(SCHEDULE, "v", LEVELS),
}


def labelled(x: Tensor, t: Tensor, y: Tensor, shift: Tensor | float = 0.0) -> Tensor:
    """A network that sees a label for each image."""
    column = (t / 20 + y).reshape(-1, *[1] * (x.dim() - 1))
    return 0.4 * x + column * x.sin() + shift


def twice(network: Callable[..., Tensor], raw: float) -> Callable[..., Tensor]:
    """A network with a second half of constant raw values, different for each channel."""

    def wide(x: Tensor, t: Tensor) -> Tensor:
        channels = raw * torch.arange(1, x.shape[1] + 1).reshape(1, -1, *[1] * (x.dim() - 2))
        return torch.cat([network(x, t), channels.expand(x.shape)], dim=1)

    return wide


@pytest.mark.parametrize("name", TABLES)
def test_a_network_may_return_what_is_not_contiguous(name: str) -> None:
    diffusion, table = GaussianDiffusion(SCHEDULE, "v"), TABLES[name]()

    def strided(x: Tensor, t: Tensor) -> Tensor:
        return labelled(x, t, torch.zeros(3)).mT.contiguous().mT

    def plain(x: Tensor, t: Tensor) -> Tensor:
        return strided(x, t).contiguous()

    got, want = (diffusion.sample_loop(f, (3, 2, 5), table, seed=3) for f in (strided, plain))
    assert torch.equal(got, want)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("joint", "ratio"), [(True, None), (False, None), (True, 0.8)])
def test_guidance_by_hand(name: str, joint: bool, ratio: float | None) -> None:
    diffusion, table = GaussianDiffusion(SCHEDULE, "v"), TABLES[name]()
    y, null = torch.tensor([0.9, -0.8, 0.5]), torch.zeros(3)
    scale = torch.tensor([0.0, 1.0, 3.5])

    def by_hand(x: Tensor, t: Tensor) -> Tensor:
        apart = labelled(x, t, y) - labelled(x, t, null)
        return labelled(x, t, null) + scale.reshape(-1, 1, 1) * apart

    want = diffusion.sample_loop(by_hand, (3, 2, 5), table, seed=3, threshold_ratio=ratio)
    for chosen, images in ((scale, slice(3)), (3.5, slice(2, 3))):
        got = diffusion.sample_loop(
            labelled, (3, 2, 5), table, seed=3, threshold_ratio=ratio,
            guidance=Guidance(chosen, {"y": null}, joint), y=y,
        )  # fmt: skip
        torch.testing.assert_close(
            got[images], want[images], rtol=FLOAT32_CHAIN, atol=FLOAT32_CHAIN
        )


def test_calls_of_a_guided_network() -> None:
    diffusion, key = GaussianDiffusion(SCHEDULE, "x0"), Key.of(1, range(2))
    table = ddim_table(SCHEDULE, "x0", [12, 5, 0], 0.0)
    calls: list[tuple[Any, ...]] = []

    def network(x: Tensor, t: Tensor, y: Tensor, shift: Tensor, mode: str) -> Tensor:
        calls.append((x.clone(), t.tolist(), y.tolist(), float(shift), mode))
        return torch.zeros_like(x)

    x, y = diffusion.initial_noise((2, 3), key), torch.tensor([7, 8])
    conditions: dict[str, Any] = {"y": y, "shift": torch.tensor(6.0), "mode": "fast"}
    for joint in (True, False):
        calls.clear()
        guidance = Guidance(2.0, {"y": torch.tensor([0, 0])}, joint)
        list(diffusion.sample_progressive(network, x, key, table, guidance=guidance, **conditions))
        if joint:
            assert [call[1:] for call in calls] == [
                ([12] * 4, [7, 8, 0, 0], 6.0, "fast"),
                ([5] * 4, [7, 8, 0, 0], 6.0, "fast"),
            ]
            assert torch.equal(calls[0][0], torch.cat([x, x]))
        else:
            labels = [call[1:3] for call in calls]
            assert labels[:2] == [([12, 12], [7, 8]), ([12, 12], [0, 0])]
            assert len(labels) == 4
            assert torch.equal(calls[1][0], x)


def test_guidance_that_does_not_fit() -> None:
    diffusion, y = GaussianDiffusion(SCHEDULE, "v"), torch.zeros(3)

    def run(uncond: dict[str, Any], **conditions: Any) -> None:
        table, guidance = TABLES["ddim"](), Guidance(2.0, uncond)
        diffusion.sample_loop(labelled, (3, 2), table, seed=1, guidance=guidance, **conditions)

    with pytest.raises(ValueError, match="uncond has z: allowed are names of conditions, y"):
        run({"z": y}, y=y)
    with pytest.raises(ValueError, match=r"uncond has y: allowed .* of which there are none"):
        run({"y": y})
    with pytest.raises(ValueError, match=r"condition y has shapes \(3,\) and, without guidance, "):
        run({"y": torch.zeros(2)}, y=y)
    with pytest.raises(ValueError, match=r"condition y has shapes \(2,\) and"):
        run({}, y=torch.zeros(2))
    with pytest.raises(ValueError, match=r"condition y has shapes \(2,\) and, .* guidance, \(3,\)"):
        run({"y": y}, y=torch.zeros(2))
    with pytest.raises(ValueError, match=r"condition y has shapes \(3,\) and, .* guidance, \(\)"):
        run({"y": None}, y=y)


@settings(max_examples=15)
@given(moderate_betas(min_steps=2), seeds(), st.floats(0.5, 1))
def test_dynamic_thresholds(betas: Array, seed: int, ratio: float) -> None:
    diffusion = GaussianDiffusion(Schedule.from_betas(betas.tolist()), "x0")
    chain, samples, levels = Chain(betas), np.array([3, 5]), trailing(len(betas))
    network = exact_network(diffusion, 1.3, 0.7)
    got = diffusion.p_sample_loop(
        network, (2, 9), seed=seed, samples=samples.tolist(), threshold_ratio=ratio
    )
    x = initial(seed, samples, 9)
    for t, s in pairwise(levels):
        clean = 1.3 + gain(chain.c[t], chain.one_minus_alpha_bar[t], 0.7) * (x - chain.c[t] * 1.3)
        bound = np.maximum(np.quantile(np.abs(clean), ratio, axis=1, keepdims=True), 1)
        mean, variance = posterior_mean_variance(
            chain, s, t, np.clip(clean, -bound, bound) / bound, x
        )
        x = mean + np.sqrt(variance) * philox.normals(seed, SAMPLING_NOISE, t, samples, 9)
    np.testing.assert_allclose(got, x, rtol=FLOAT32_CHAIN, atol=FLOAT32_CHAIN)


@settings(max_examples=15)
@given(st.data(), moderate_betas(min_steps=2), seeds(), st.floats(-1, 1))
def test_learned_variances(data: st.DataObject, betas: Array, seed: int, raw: float) -> None:
    variance = data.draw(LEARNED)
    levels = trailing(len(betas), data.draw(st.integers(1, len(betas))))
    schedule, chain, samples = Schedule.from_betas(betas.tolist()), Chain(betas), np.array([3, 5])
    diffusion = GaussianDiffusion(schedule, "v", variance)
    network = twice(exact_network(diffusion, 0.3, 0.7), raw)
    got = diffusion.p_sample_loop(
        network, (2, 2, 3), seed=seed, samples=samples.tolist(), steps=len(levels) - 1,
        clip_denoised=False,
    )  # fmt: skip
    x = initial(seed, samples, 6).reshape(2, 2, 3)
    logits = np.broadcast_to(raw * np.array([[1.0], [2.0]]), x.shape)
    for t, s in pairwise(levels):
        clean = 0.3 + gain(chain.c[t], chain.one_minus_alpha_bar[t], 0.7) * (x - chain.c[t] * 0.3)
        x, _ = posterior_mean_variance(chain, s, t, clean, x)
        if s:
            share = (logits + 1) / 2 if variance == "learned_range" else logits
            law = sigmoid_variance if variance == "learned_sigmoid" else log_interpolated_variance
            z = philox.normals(seed, SAMPLING_NOISE, t, samples, 6).reshape(x.shape)
            x = x + np.sqrt(law(chain, s, t, share)) * z
    np.testing.assert_allclose(got, x, rtol=FLOAT32_CHAIN, atol=FLOAT32_CHAIN)


@pytest.mark.parametrize("variance", ["learned", "learned_sigmoid"])
@pytest.mark.parametrize("name", TABLES)
def test_samplers_of_fixed_variance_leave_the_learned_half_alone(name: str, variance: Any) -> None:
    def network(x: Tensor, t: Tensor) -> Tensor:
        return 0.3 * x + t.reshape(-1, 1, 1) / 10

    table = TABLES[name]()
    want = GaussianDiffusion(SCHEDULE, "v").sample_loop(network, (2, 2, 3), table, seed=5)
    learned = GaussianDiffusion(SCHEDULE, "v", variance)
    got = learned.sample_loop(twice(network, 1.7), (2, 2, 3), table, seed=5)
    assert torch.equal(got, want)


def test_a_learned_table_needs_a_learned_variance() -> None:
    table = ancestral_table(SCHEDULE, "v", LEVELS, "learned")
    others: tuple[Variance, ...] = ("posterior", "learned_sigmoid")
    for variance in others:
        diffusion = GaussianDiffusion(SCHEDULE, "v", variance)
        with pytest.raises(ValueError, match=r"table.learned = 'log': allowed for a network whose"):
            diffusion.sample_loop(lambda x, _: x, (2, 3), table, seed=1)


@pytest.mark.parametrize("name", ["dpm_solver", "heun", "euler_maruyama"])
@pytest.mark.parametrize("clip", [True, False])
def test_other_samplers_against_float64(name: str, clip: bool) -> None:
    """The table applied in float64 to the exact network, with the history of the row before."""
    diffusion, table, samples = GaussianDiffusion(SCHEDULE, "v"), TABLES[name](), np.arange(4)
    network = exact_network(diffusion, 0.6, 0.5)
    got = diffusion.sample_loop(network, (4, 5), table, seed=2, clip_denoised=clip)
    chain = Chain(SCHEDULE.beta[1:].numpy())
    x, before = initial(2, samples, 5), np.zeros((4, 5))
    for row, t in zip(table.coefficients.double().numpy(), table.path, strict=False):
        clean = 0.6 + gain(chain.c[t], chain.one_minus_alpha_bar[t], 0.5) * (x - chain.c[t] * 0.6)
        clean = clean.clip(-1, 1) if clip else clean
        z = philox.normals(2, SAMPLING_NOISE, t, samples, 5)
        x, before = row[2] * clean + row[3] * x + row[4] * before + row[5] * z, clean
    np.testing.assert_allclose(got, x, rtol=FLOAT32_CHAIN, atol=FLOAT32_CHAIN)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("ratio", [None, 0.9])
def test_a_picture_does_not_depend_on_its_batch(name: str, ratio: float | None) -> None:
    diffusion, table = GaussianDiffusion(SCHEDULE, "v"), TABLES[name]()
    y, scale = torch.linspace(-1, 1, 16), torch.linspace(0, 3, 16)

    def draw(chosen: list[int]) -> Tensor:
        guidance = Guidance(scale[chosen], {"y": torch.zeros(len(chosen))})
        return diffusion.sample_loop(
            labelled, (len(chosen), 3, 5), table, seed=4, samples=chosen,
            threshold_ratio=ratio, guidance=guidance, y=y[chosen],
        )  # fmt: skip

    whole = draw(list(range(16)))
    for i in (0, 7, 15):
        assert torch.equal(draw([i])[0], whole[i])


@pytest.mark.parametrize("name", TABLES)
def test_states_name_the_level_and_the_number_of_calls(name: str) -> None:
    diffusion, table, key = GaussianDiffusion(SCHEDULE, "v"), TABLES[name](), Key.of(1, [0])
    seen: list[int] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(int(t))
        return x

    x = diffusion.initial_noise((1, 3), key)
    states = list(diffusion.sample_progressive(network, x, key, table))
    assert tuple(seen) == table.path[:-1]
    assert tuple(state.t for state in states) == table.path[1:]
    assert [state.step for state in states] == list(range(1, len(states) + 1))
    assert {state.steps for state in states} == {len(table.path) - 1}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("ratio", [None, 0.9])
def test_the_loop_reads_nothing_back(name: str, ratio: float | None) -> None:
    """Tensors without data have nothing to read; a loop that waits for them raises."""
    diffusion, key = GaussianDiffusion(SCHEDULE, "v"), Key.of(1, range(2))
    place = Key(*(part.to("meta") for part in (key.seed, key.step, key.sample)))
    x, y = (torch.zeros(shape, device="meta") for shape in ((2, 3, 4), (2,)))
    run = diffusion.sample_progressive(
        labelled, x, place, TABLES[name]().to("meta"),
        threshold_ratio=ratio, guidance=Guidance(3.0, {"y": y}), y=y,
    )  # fmt: skip
    states = list(run)
    assert states[-1].t == 0
    assert states[-1].x.shape == (2, 3, 4)
