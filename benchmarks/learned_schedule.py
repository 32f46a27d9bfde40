"""How noisy the bound's estimate is under a learned schedule and under fixed ones.

A U-Net and its schedule learn the digits together for some minutes. Then the same network is read
under each schedule between the same two log-SNRs: where a schedule has log-SNR g, the network is
told the level, a fraction among them, at which the learned one has g. So every schedule meets the
same errors and differs in where it looks alone. Run it as

    python -m benchmarks.learned_schedule --minutes 3
"""

import argparse
import math
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm.config import log_snr_end, log_snr_start
from ddpm.data.digits import load
from ddpm.data.images import ImageData, to_float
from ddpm.kernels.normal import normal
from ddpm.kernels.philox import normals
from ddpm.kernels.streams import Stream
from ddpm.keys import Key, draw_levels
from ddpm.learned_schedule import MonotoneLogSnr, ScheduledNetwork
from ddpm.models.initialise import build
from ddpm.models.unet import UNet, UNetConfig
from ddpm.schedule import Schedule

LEVELS = 500
BATCH = 64
RATE = 2e-3
WARMUP = 50
READ = 100
"""Levels at which the terms are measured, evenly spaced among 2..T."""
FINE = 100_000
NETWORK = UNetConfig(channels=48, multipliers=(1, 1), blocks=1, attention=(1,))


class Spread(NamedTuple):
    """Moments of the bound's estimate from one random level, image and noise, in nats/dim."""

    mean: float
    variance: float
    between: float
    """Variance of the mean over the level, which remains with any number of images."""


def make(data: ImageData, levels: int = LEVELS) -> ScheduledNetwork:
    ends = log_snr_end(data.levels), log_snr_start(math.prod(data.shape))
    return build(lambda: ScheduledNetwork(UNet(NETWORK), MonotoneLogSnr(*ends), levels), 0, "cpu")


class Training:
    """Updates of both, each a function of its number."""

    def __init__(self, both: ScheduledNetwork, data: ImageData) -> None:
        self.both = both
        self.images = to_float(data.train, data.levels)
        self.optimiser = torch.optim.AdamW(both.parameters(), lr=RATE, betas=(0.9, 0.99))
        self.updates = 0

    def update(self, total: int) -> float:
        """One update of `total`; returns the loss."""
        key = Key.of(0, range(BATCH), step=self.updates)
        row = torch.arange(self.updates * BATCH, (self.updates + 1) * BATCH) % len(self.images)
        t = draw_levels(key, self.both.levels)
        x = self.images[row]
        drawn = normals(key.seed, key.step, key.sample, Stream.TRAINING_NOISE, x[0].numel())
        warm = min(1.0, (self.updates + 1) / WARMUP)
        rate = RATE * warm * (1 + math.cos(math.pi * self.updates / total)) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        loss = self.both(x, t, drawn.view_as(x)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.both.parameters(), 1.0)
        self.optimiser.step()
        self.updates += 1
        return float(loss.detach())


def train(both: ScheduledNetwork, data: ImageData, minutes: float) -> int:
    """Train for about so many minutes and return the number of updates."""
    training, probe = Training(both, data), 20
    began = perf_counter()
    for _ in range(probe):
        training.update(10**6)
    total = max(probe + 1, round(minutes * 60 * probe / (perf_counter() - began)))
    while training.updates < total:
        training.update(total)
    return total


def curves(learned: Tensor) -> dict[str, Tensor]:
    """Log-SNR at levels 1..T of each schedule, with the ends of the learned one."""
    steps = len(learned)
    first, last = float(learned[0]), float(learned[-1])
    ends = torch.tensor([first, last], dtype=torch.float64)
    time = 2 / math.pi * torch.atan(torch.exp(-ends / 2))
    between = torch.linspace(float(time[0]), float(time[1]), steps, dtype=torch.float64)
    cosine = -2 * torch.log(torch.tan(math.pi / 2 * between))
    fine = Schedule.linear(FINE).log_snr[1:].flip(0).numpy()
    where = np.interp([first, last], fine, np.arange(FINE, 0, -1))
    linear = np.interp(np.linspace(where[0], where[1], steps), np.arange(1, FINE + 1), fine[::-1])
    return {
        "learned": learned,
        "log_snr_linear": torch.linspace(first, last, steps, dtype=torch.float64),
        "cosine": cosine,
        "linear": torch.from_numpy(linear),
    }


def level_of(log_snr: Tensor, learned: Tensor) -> Tensor:
    """Fractional levels at which the learned schedule has these log-SNRs, float32."""
    known = learned.flip(0).numpy()
    found = np.interp(log_snr.numpy(), known, np.arange(len(known), 0, -1))
    return torch.from_numpy(found).float()


@torch.no_grad()
def spread(
    network: Callable[[Tensor, Tensor], Tensor],
    curve: Tensor,
    learned: Tensor,
    images: Tensor,
    read: int = READ,
) -> Spread:
    """Moments of (T - 1) times the bound's term under a schedule.

    Args:
        network: Predicts eps from (x_t, level).
        curve: Log-SNR at levels 1..T of the schedule, float64 [T].
        learned: That of the schedule which the network was trained with.
        images: Clean images [B, C, H, W].
        read: Number of levels to look at.
    """
    steps = len(curve)
    terms = []
    for t in np.linspace(2, steps, read).round().astype(int).tolist():
        log_snr, before = curve[t - 1], curve[t - 2]
        key = Key.of(1, range(len(images)), step=t)
        noise = normal(
            key.seed, key.step, key.sample, Stream.EVALUATION_NOISE,
            list(images.shape[1:]), torch.float32,
        )  # fmt: skip
        signal, sigma = (float(torch.sigmoid(g).sqrt()) for g in (log_snr, -log_snr))
        level = level_of(log_snr[None], learned).expand(len(images))
        error = network(signal * images + sigma * noise, level) - noise
        factor = (steps - 1) / 2 * float(torch.expm1(before - log_snr))
        terms.append(factor * error.double().square().flatten(1).mean(dim=1))
    table = torch.stack(terms)
    between = float(table.mean(dim=1).var(correction=0))
    return Spread(float(table.mean()), float(table.var(correction=0)), between)


def measure(both: ScheduledNetwork, images: Tensor, read: int = READ) -> dict[str, Spread]:
    """The spread of each schedule under one trained network."""
    both.eval()
    learned = both.schedule.schedule(both.levels).log_snr[1:]
    return {
        name: spread(both.network, curve, learned, images, read)
        for name, curve in curves(learned).items()
    }


def markdown(rows: dict[str, Spread]) -> str:
    best = rows["learned"].variance
    lines = [
        "| schedule | bound (2..T), nats/dim | variance of its estimate | of which between levels "
        "| variance over the learned one's |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {row.mean:.4f} | {row.variance:.4f} | {row.between:.4f} "
        f"| {row.variance / best:.2f} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--images", type=int, default=180)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = load()
    both = make(data)
    updates = train(both, data, given.minutes)
    print(f"{updates} updates of {BATCH} digits, T = {LEVELS}\n")
    print(markdown(measure(both, to_float(data.test[: given.images], data.levels))))


if __name__ == "__main__":
    main()
