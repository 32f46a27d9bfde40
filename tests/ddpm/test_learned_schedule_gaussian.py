"""Gaussian data, for which the best schedule and the bound are known, and the measurement."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.learned_schedule import curves, level_of, make, measure, spread, train
from ddpm.data.digits import load
from ddpm.data.images import to_float
from ddpm.kernels.philox import normals
from ddpm.kernels.streams import Stream
from ddpm.keys import Key, draw_levels
from ddpm.learned_schedule import MonotoneLogSnr, ScheduledNetwork
from ddpm.reference.continuous import discrete_objective, level_masses, objective_in_snr
from ddpm.reference.schedule_learning import learn_schedule
from ddpm.reference.schedules import log_snr_schedule

VARIANCE, MANY, ENDS, SIZE = 0.2, 64, (4.0, -2.0), 32


class Exact(nn.Module):
    """The best estimate of the noise for normal data of some variance, at given log-SNRs."""

    def __init__(self, log_snr: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.log_snr = log_snr

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        power = torch.sigmoid(self.log_snr(t)).to(x.dtype).view(-1, 1)
        return (1 - power).sqrt() / (power * VARIANCE + 1 - power) * x


def gaussian_error(snr: float) -> float:
    return VARIANCE / (1 + snr * VARIANCE)


def test_the_schedule_shares_out_the_masses_of_gaussian_data_evenly() -> None:
    schedule = MonotoneLogSnr(*ENDS, 128)
    # A function hides the schedule's parameters from the network.
    exact = Exact(lambda t: schedule.schedule(MANY).log_snr[t])
    both = ScheduledNetwork(exact, schedule, MANY)
    optimiser = torch.optim.Adam(schedule.parameters(), lr=5e-3)
    count = 500
    for update in range(count):
        optimiser.param_groups[0]["lr"] = 5e-3 * (1 - update / count)
        key = Key.of(0, range(256), step=update)
        x, noise = (
            normals(key.seed, key.step, key.sample, stream, SIZE)
            for stream in (Stream.SAMPLING_NOISE, Stream.TRAINING_NOISE)
        )
        optimiser.zero_grad()
        both(math.sqrt(VARIANCE) * x, draw_levels(key, MANY), noise).mean().backward()
        optimiser.step()
    start = np.linspace(*ENDS, MANY)
    best = learn_schedule(start, lambda chain: level_masses(chain, gaussian_error), rounds=20)
    want = np.log(best.snr[1:])
    got = schedule.table(MANY).detach().numpy()
    assert np.abs(want - start).max() > 2
    assert np.abs(want - got).max() < 0.1


def test_every_schedule_has_the_bound_of_gaussian_data() -> None:
    curve = MonotoneLogSnr(*ENDS, 16)
    with torch.no_grad():
        curve.height.copy_(torch.linspace(-0.2, 0.2, 16))
    learned = curve.schedule(300).log_snr[1:]
    known = learned.flip(0).numpy()

    def at(level: Tensor) -> Tensor:
        place = np.interp(level.numpy(), np.arange(1, 301), known[::-1])
        return torch.from_numpy(place)

    key = Key.of(2, range(200))
    x = math.sqrt(VARIANCE) * normals(key.seed, key.step, key.sample, Stream.LABEL, SIZE)
    lowest, highest = math.exp(ENDS[1]), math.exp(ENDS[0])
    want = -objective_in_snr(lowest, highest, gaussian_error)
    found = curves(learned)
    assert len(found) == 4
    for log_snr in found.values():
        assert bool((log_snr.diff() < 0).all())
        assert float(log_snr[0]) == pytest.approx(ENDS[0], abs=1e-3)
        assert float(log_snr[-1]) == pytest.approx(ENDS[1], abs=1e-3)
        got = spread(Exact(at), log_snr, learned, x, read=299)
        own = -discrete_objective(log_snr_schedule(log_snr.numpy()), gaussian_error)
        assert got.mean == pytest.approx(own, rel=0.03)
        # The sum over levels lies above the integral by the order of 1 / T.
        assert got.mean == pytest.approx(want, rel=0.1)
        assert 0 < got.between < got.variance


def test_levels_of_log_snrs() -> None:
    learned = torch.tensor([3.0, 1.0, -2.0], dtype=torch.float64)
    got = level_of(torch.tensor([3.0, 2.0, -2.0], dtype=torch.float64), learned)
    assert got.tolist() == [1.0, 1.5, 3.0]


def test_the_measurement_runs() -> None:
    data = load()
    both = make(data, levels=20)
    assert train(both, data, 1e-6) == 21
    rows = measure(both, to_float(data.test[:4], data.levels), read=3)
    assert list(rows) == ["learned", "log_snr_linear", "cosine", "linear"]
