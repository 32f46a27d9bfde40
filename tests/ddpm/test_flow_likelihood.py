"""The flow's likelihood against closed forms and quadrature, and its bits beside the bound's."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

import ddpm
from ddpm import extras, flow_likelihood
from ddpm.analytic import GaussianMixture
from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError
from ddpm.flow_likelihood import FlowBits, flow_bits, flow_log_density
from ddpm.keys import Key
from ddpm.likelihood import Bound, calc_bpd_loop, collect, prior_bits
from ddpm.predictions import Prediction
from ddpm.reference.decoder import decoder_log_likelihood
from ddpm.reference.mixture import Mixture
from ddpm.schedule import Schedule

# So little signal at level T that N(0, I) is its law to a millionth of a nat.
SCHEDULE = Schedule.log_snr_linear(37, 6.0, -30.0)
TIGHT: dict[str, Any] = {"rtol": 1e-7, "atol": 1e-7}

GREYS, CHANCES = np.linspace(-1, 1, 5), np.array([0.1, 0.3, 0.15, 0.05, 0.4])
PIXEL = GaussianMixture(CHANCES.tolist(), GREYS[:, None].tolist(), [0.0] * 5)
POINTS = Mixture(CHANCES, GREYS, np.zeros(5))
ENTROPY = float(-(CHANCES * np.log2(CHANCES)).sum())
DEVIATION = 0.1


def made(components: int, dimensions: int) -> GaussianMixture:
    generator = np.random.default_rng(dimensions)
    factors = generator.normal(size=(components, dimensions, dimensions)) / dimensions**0.5
    weights = generator.uniform(0.2, 1.0, components)
    covariances = 0.3 * factors @ factors.transpose(0, 2, 1) + 0.05 * np.eye(dimensions)
    means = generator.normal(size=(components, dimensions))
    return GaussianMixture(
        torch.tensor(weights / weights.sum()), torch.tensor(means), torch.tensor(covariances)
    )


def noised(data: GaussianMixture, level: int, count: int) -> tuple[Tensor, Tensor]:
    """Draws at a level and their log densities there, in closed form."""
    moments = SCHEDULE.alpha_bar[level].sqrt(), SCHEDULE.one_minus_alpha_bar[level].sqrt()
    generator = torch.Generator().manual_seed(level)
    noise = torch.randn(count, data.dimensions, generator=generator, dtype=torch.float64)
    x = moments[0] * data.sample(Key.of(level, range(count))) + moments[1] * noise
    return x, data.log_density(x, *moments)


def pixels(count: int) -> Tensor:
    each = (CHANCES * count).round().astype(int)
    return torch.tensor(np.repeat(GREYS, each)[:, None], dtype=torch.float32)


@pytest.mark.parametrize(
    ("dimensions", "level", "prediction"),
    [(1, 1, "eps"), (1, 10, "v"), (2, 1, "x0"), (2, 10, "score"), (64, 1, "v"), (64, 10, "eps")],
)
def test_exact_trace_is_the_closed_form_to_a_ten_thousandth_of_a_nat(
    dimensions: int, level: int, prediction: Prediction
) -> None:
    data = made(3, dimensions)
    x, want = noised(data, level, 4)
    network = data.network(SCHEDULE, prediction)
    found = flow_log_density(GaussianDiffusion(SCHEDULE, prediction), network, x, level, **TIGHT)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-4)


def test_shapes_of_images_and_the_last_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_likelihood, "DIRECTIONS_TOGETHER", 3)
    data = made(2, 4)
    x, want = noised(data, 3, 3)
    diffusion, network = GaussianDiffusion(SCHEDULE), data.network(SCHEDULE, "eps")
    found = flow_log_density(diffusion, network, x.view(3, 1, 2, 2), 3, **TIGHT)
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-4)
    last = flow_log_density(diffusion, network, x, 37)
    np.testing.assert_allclose(last, stats.norm.logpdf(x).sum(1), rtol=1e-12)


def test_it_is_the_density_of_the_flow_s_own_law() -> None:
    """Where level T is not noise alone, the law differs from the data's and still has mass one."""
    schedule, data = Schedule.log_snr_linear(9, 3.0, -1.0), GaussianMixture([1.0], [[0.8]], [0.1])
    diffusion, network = GaussianDiffusion(schedule), data.network(schedule, "eps")
    x = torch.linspace(-4, 4, 161, dtype=torch.float64)[:, None]
    found = flow_log_density(diffusion, network, x, 1, rtol=1e-5, atol=1e-5)
    assert integrate.simpson(found.exp(), x=x[:, 0]) == pytest.approx(1, abs=1e-3)
    # The flow maps quantiles linearly: of N(m_T, s_T^2), here N(0, 1), to N(m_1, s_1^2).
    (m1, s1), (m2, s2) = (
        (0.8 * float(schedule.signal[t]), math.sqrt(1 - 0.9 * float(schedule.alpha_bar[t])))
        for t in (1, 9)
    )
    want = stats.norm(m1 - m2 * s1 / s2, s1 / s2).logpdf(x[:, 0])
    np.testing.assert_allclose(found, want, atol=1e-3)


def test_random_signs_are_right_on_average() -> None:
    data, count, spreads = made(3, 5), 600, []
    x, want = noised(data, 3, 1)
    diffusion, network = GaussianDiffusion(SCHEDULE), data.network(SCHEDULE, "eps")
    for probes in (1, 4):
        found = flow_log_density(
            diffusion, network, x.expand(count, -1), 3,
            trace="hutchinson", probes=probes, rtol=1e-4, atol=1e-4, seed=4,
        )  # fmt: skip
        spreads.append(float(found.std()))
        assert abs(float(found.mean() - want)) < 4 * spreads[-1] / count**0.5 + 1e-3
    # Four independent signs have half the deviation of one.
    assert spreads[1] == pytest.approx(spreads[0] / 2, rel=0.15)
    assert spreads[0] > 0.05


def test_signs_belong_to_seed_and_sample() -> None:
    data = made(2, 3)
    x = noised(data, 10, 1)[0].expand(4, -1)
    diffusion, network = GaussianDiffusion(SCHEDULE), data.network(SCHEDULE, "eps")

    def found(part: Tensor, **options: Any) -> Tensor:
        return flow_log_density(
            diffusion, network, part, 10, trace="hutchinson", **options, **TIGHT
        )

    whole, alone = found(x, seed=2), found(x[:1], seed=2, samples=[3])
    assert float(alone[0]) == pytest.approx(float(whole[3]), abs=1e-5)
    assert float((whole - found(x, seed=5)).abs().max()) > 1e-3
    assert float(whole.std()) > 1e-3
    # On the line a sign squared is one, and the trace exact.
    line = made(2, 1)
    y, want = noised(line, 10, 3)
    options: dict[str, Any] = {"trace": "hutchinson", **TIGHT}
    exact = flow_log_density(diffusion, line.network(SCHEDULE, "eps"), y, 10, **options)
    np.testing.assert_allclose(exact, want, atol=1e-5)


@pytest.mark.parametrize("name", ["unet", "mlp", "transformer"])
def test_trace_of_a_network_by_gradients_is_that_by_differences(name: str) -> None:
    """Over so short a stretch d of the flow that log p(x) = log N(x) + (x v - div v) d."""
    torch.manual_seed(1)
    network: torch.nn.Module = ddpm.UNet(ddpm.UNetConfig(image_channels=1, channels=8))
    if name == "mlp":
        network = ddpm.MLP(ddpm.MLPConfig(width=16, depth=1), (1, 4, 4))
    if name == "transformer":
        network = ddpm.Transformer(ddpm.TransformerConfig(width=16, depth=1, heads=2), 1)
    with torch.no_grad():
        for parameter in network.double().parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    length, alpha = 1e-6, math.sqrt(1 / (1 + math.exp(-0.5)))
    schedule = Schedule(torch.tensor([math.inf, 0.5 + 2 * length, 0.5], dtype=torch.float64))
    diffusion, x = GaussianDiffusion(schedule, "v"), torch.randn(2, 1, 4, 4, dtype=torch.float64)
    found = flow_log_density(diffusion, network, x, 1, **TIGHT)

    @torch.no_grad()
    def velocity(y: Tensor) -> Tensor:
        # The stretch goes through all codes of the levels 2 to 1: Simpson's rule over them.
        outputs = [w * network(y, t.expand(2)) for w, t in zip((1, 4, 1), codes, strict=True)]
        clean = alpha * y - math.sqrt(1 - alpha**2) * torch.stack(outputs).sum(0) / 6
        return (alpha * (clean - alpha * y)).flatten(1)

    codes, trace = torch.tensor([1.0, 1.5, 2.0]), torch.zeros(2, dtype=torch.float64)
    for i, one in enumerate(1e-5 * torch.eye(16, dtype=torch.float64).view(16, 1, 4, 4)):
        trace += ((velocity(x + one) - velocity(x - one)) / 2e-5)[:, i]
    slope = (found + (x.square() + math.log(2 * math.pi)).flatten(1).sum(1) / 2) / length
    np.testing.assert_allclose((x.flatten(1) * velocity(x)).sum(1) - slope, trace, atol=1e-3)
    assert all(parameter.grad is None for parameter in network.parameters())


def exact_bits(schedule: Schedule, network: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
    """-log2 of the chances of the grey levels under p_1 and the decoder, by quadrature."""
    signal, noise = float(schedule.alpha_bar[1].sqrt()), float(schedule.one_minus_alpha_bar[1])
    x = np.linspace(-1.6, 1.6, 20_001)
    density = np.exp(POINTS.log_density(x, signal, noise))
    guess = network(torch.tensor(x)[:, None], torch.ones(len(x), dtype=torch.int64))[:, 0].numpy()
    chances = [np.exp(decoder_log_likelihood(grey, guess, DEVIATION, 5)) for grey in GREYS]
    return [-math.log2(integrate.simpson(density * chance, x=x)) for chance in chances]


def bits(schedule: Schedule, count: int) -> tuple[FlowBits, Bound]:
    diffusion, network = GaussianDiffusion(schedule, "x0"), PIXEL.network(schedule, "x0")
    x0 = pixels(count)
    options: dict[str, Any] = {"levels": 5, "decoder_std": DEVIATION, "seed": 3}
    flow = flow_bits(diffusion, network, x0, trace="exact", rtol=1e-5, atol=1e-5, **options)
    terms = calc_bpd_loop(diffusion, network, x0, **options)
    return flow, collect(prior_bits(diffusion, x0), list(terms))


def test_bits_lie_between_the_truth_and_the_chain_s_bound() -> None:
    count, gaps = 1000, []
    for steps in (4, 16, 64):
        schedule = Schedule.log_snr_linear(steps, 4.5, -12.0)
        flow, bound = bits(schedule, count)
        gaps.append(bound.total - float(flow.total.mean()))
    assert bound.decoder == pytest.approx(float(flow.decoder.mean()), rel=1e-6)
    # What the chain loses by its steps falls as 1 / T; the flow takes none.
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0.1
    want = exact_bits(schedule, PIXEL.network(schedule, "x0"))
    split = torch.split(flow.total, (CHANCES * count).round().astype(int).tolist())
    for found, truth, chance in zip(split, want, CHANCES, strict=True):
        allowed = 4 * float(found.std()) / len(found) ** 0.5 + 1e-3
        # Above the model's own -log P, and by no more than the decoder and noise leave open.
        assert truth - allowed < float(found.mean()) < truth + 0.15 + allowed
        assert truth == pytest.approx(-math.log2(chance), abs=0.1)
    assert float(flow.total.mean()) > ENTROPY - 4 * float(flow.total.std()) / count**0.5


def test_noise_of_level_one_has_the_entropy_of_a_normal_law() -> None:
    flow, _ = bits(Schedule.log_snr_linear(4, 4.5, -12.0), 1000)
    deviation = math.sqrt(1 / (1 + math.exp(4.5)))
    want = stats.norm(0, deviation).entropy() / math.log(2)
    spread = math.sqrt(0.5) / math.log(2)
    assert abs(float(flow.noise.mean()) - want) < 4 * spread / 1000**0.5
    total = flow.decoder + flow.flow - flow.noise
    assert torch.equal(flow.total, total)
    assert flow.total.shape == (1000,)


def test_bits_of_images_are_per_dimension() -> None:
    """Two independent pixels take twice the nats of one, and as many bits a dimension."""
    schedule = Schedule.log_snr_linear(6, 4.5, -12.0)
    pair = GaussianMixture(
        np.outer(CHANCES, CHANCES).ravel().tolist(),
        [[a, b] for a in GREYS for b in GREYS],
        [0.0] * 25,
    )
    diffusion, network = GaussianDiffusion(schedule, "x0"), pair.network(schedule, "x0")
    x0 = torch.tensor(GREYS[[4, 1]], dtype=torch.float32).view(1, 1, 1, 2).expand(200, -1, -1, -1)
    found = flow_bits(
        diffusion, network, x0.contiguous(), levels=5, decoder_std=DEVIATION, trace="exact"
    ).total
    want = -math.log2(0.4 * 0.3) / 2
    assert abs(float(found.mean()) - want) < 0.1


def test_labels_and_learned_variances_reach_the_flow() -> None:
    schedule, seen = Schedule.log_snr_linear(4, 4.0, -4.0), []
    diffusion = GaussianDiffusion(schedule, "x0", "learned_range", grey_levels=5)

    def network(x: Tensor, _: Tensor, labels: Tensor) -> Tensor:
        seen.append(labels)
        return torch.cat([0.5 * x.tanh(), x], dim=1)

    labels = torch.tensor([4, 1, 3])
    x0 = pixels(20)[:3].view(3, 1, 1, 1)
    found = flow_bits(diffusion, network, x0, levels=5, decoder_std=None, labels=labels)
    assert found.total.isfinite().all()
    assert all(torch.equal(given, labels) for given in seen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 0}, "level = 0: allowed is 1 to T = 37"),
        ({"level": 38}, "level = 38: allowed is 1 to T = 37"),
        ({"trace": "guess"}, "trace = 'guess': allowed is exact or hutchinson"),
        ({"probes": 0}, "probes = 0: allowed is an integer of at least 1"),
        ({"rtol": -1.0}, "rtol = -1.0: allowed is a positive"),
        ({"method": "euler"}, "method = 'euler': allowed is dopri5"),
        ({"samples": [1]}, "samples has 1 entries: allowed is one for each of 2 in x"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"level": 3} | change
    with pytest.raises(ValueError, match=message):
        flow_log_density(
            GaussianDiffusion(SCHEDULE), torch.nn.Bilinear(1, 1, 1), torch.zeros(2, 1), **arguments
        )


def test_what_has_no_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = GaussianDiffusion(SCHEDULE.with_zero_terminal_snr(), "x0")
    x = torch.zeros(2, 1)
    with pytest.raises(ValueError, match="levels begin at 37: allowed in continuous time"):
        flow_log_density(silent, lambda x, _: x, x, 1)
    with pytest.raises(ValueError, match="tensor without a gradient"):
        flow_log_density(GaussianDiffusion(SCHEDULE), lambda x, _: x.detach(), x, 1)
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"the flow's likelihood needs torchdiffeq: .*\[ode\]"):
        flow_log_density(GaussianDiffusion(SCHEDULE), lambda x, _: x, x, 1)
