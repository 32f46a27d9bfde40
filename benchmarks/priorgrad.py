"""Diffusion towards N(0, 1) beside diffusion towards the mean and deviations of the pixels.

    python -m benchmarks.priorgrad --data contrast --updates 1500

trains the same network for the same updates on the digits, or on digits whose pixels have contrasts
between 0.02 and 1 and random brightness, and prints a markdown table: bits/dim of held-out images
(the bound, in the grey levels of the images), its terms, and the Fréchet distance of samples that
were clipped on the way and of samples that were not.
"""

import argparse
import math
from dataclasses import dataclass
from itertools import product
from time import process_time

import torch
from torch import Tensor, nn

from ddpm.config import OptimiserConfig, log_snr_end, log_snr_start
from ddpm.data.images import ImageData, to_float, to_levels
from ddpm.data.load import load_images
from ddpm.diffusion import GaussianDiffusion
from ddpm.evaluation.frechet import pca_frechet
from ddpm.kernels.normal import normal
from ddpm.kernels.philox import words
from ddpm.kernels.streams import Stream
from ddpm.keys import Key, draw_levels
from ddpm.likelihood import collect, level_bits, prior_bits
from ddpm.models.initialise import build
from ddpm.models.unet import UNet, UNetConfig
from ddpm.prior import Prior, decoder_bits, fit_decoder_std
from ddpm.prior_diffusion import PriorDiffusion
from ddpm.samplers.ancestral import ancestral_table
from ddpm.schedule import Schedule
from ddpm.training.ema import Ema
from ddpm.training.rates import learning_rate

BATCH, LEVELS, FIT_IMAGES, DRAWN = 64, 200, 500, 250
LEAST_CONTRAST = 0.02
HEADINGS = (
    "data", "prior", "bits/dim", "start", "levels", "decoder", "fréchet clipped", "unclipped",
    "s to train", "s to draw clipped", "unclipped",
)  # fmt: skip


def uniforms(count: int, stream: Stream) -> Tensor:
    """Fixed numbers in (0, 1), float64 [count]."""
    word = words(torch.tensor(0), torch.tensor(0), torch.arange(count), stream, 1)[:, 0]
    return (word.double() + 0.5) / 2**32


def contrast_digits() -> ImageData:
    """The digits in 256 grey levels, each pixel with a contrast and a brightness of its own."""
    data = load_images("digits")
    spread = uniforms(128, Stream.AUGMENTATION).reshape(2, 1, 8, 8)
    contrast = LEAST_CONTRAST ** spread[0]
    centre = (2 * spread[1] - 1) * (1 - contrast)

    def seen(images: Tensor) -> Tensor:
        return to_levels(centre + contrast * to_float(images, data.levels), 256)

    return ImageData(
        "digits of unequal contrast", seen(data.train), seen(data.test),
        data.train_labels, data.test_labels, 256,
    )  # fmt: skip


def no_prior(shape: tuple[int, ...]) -> Prior:
    return Prior(torch.zeros(shape), torch.ones(shape))


@dataclass(frozen=True, eq=False)
class Subject:
    """A process with its prior, and what it is trained on."""

    data: ImageData
    prior: Prior
    diffusion: GaussianDiffusion

    @staticmethod
    def of(data: ImageData, prior: Prior, end: str, coarser: float) -> "Subject":
        # The finest noise is as fine for this pixel as it is for all of them without a prior.
        deviation = prior.widest if end == "widest" else prior.typical
        top = log_snr_end(data.levels) + 2 * math.log(deviation / coarser)
        schedule = Schedule.log_snr_linear(LEVELS, top, log_snr_start(math.prod(data.shape)))
        return Subject(data, prior, GaussianDiffusion(schedule))

    def train(self, updates: int, seed: int) -> tuple[nn.Module, float]:
        """The averaged network and the seconds that it took."""
        config = UNetConfig(channels=32, multipliers=(1, 1), blocks=1, attention=(1,))
        network = build(lambda: UNet(config), seed, "cpu").train()
        rates, average = OptimiserConfig(learning_rate=4e-3), Ema(network, 0.999)
        optimiser = torch.optim.AdamW(
            network.parameters(), betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        process, began = PriorDiffusion(self.prior), process_time()
        for update in range(updates):
            key = Key.of(seed, range(BATCH), update)
            word = words(key.seed, key.step, key.sample, Stream.DATA_ORDER, 1)[:, 0]
            x = to_float(self.data.train[(word * self.data.count) >> 32], self.data.levels)
            losses = process.training_losses(
                self.diffusion, network, x, draw_levels(key, LEVELS), key=key
            )
            optimiser.zero_grad(set_to_none=True)
            losses.mean().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.param_groups[0]["lr"] = learning_rate(update + 1, updates, rates)
            optimiser.step()
            average.update(network)
        average.copy_to(network)
        return network.eval(), process_time() - began

    def estimates(self, network: nn.Module, y: Tensor, seed: int) -> Tensor:
        """Whitened clean images that the network sees at level 1."""
        key, level = Key.of(seed, range(len(y)), 1), torch.ones(len(y), dtype=torch.int64)
        shape = list(y.shape[1:])
        noise = normal(key.seed, key.step, key.sample, Stream.EVALUATION_NOISE, shape)
        y_1 = self.diffusion.q_sample(y, level, noise)
        return self.diffusion.predict_xstart(network(y_1, level), y_1, level)

    @torch.no_grad()
    def bound(self, network: nn.Module, seed: int) -> list[str]:
        """Bits/dim of the held-out images, and the three terms."""
        levels, prior = self.data.levels, self.prior
        train = to_float(self.data.train[:FIT_IMAGES], levels)
        test = to_float(self.data.test, levels)
        y, sigma = prior.whiten(test), float(self.diffusion.schedule.sigma[1])
        guess = self.estimates(network, prior.whiten(train), seed)
        std = fit_decoder_std(prior, guess, train, sigma, levels)
        terms = [(t, level_bits(self.diffusion, network, y, t, seed)) for t in range(LEVELS, 1, -1)]
        last = decoder_bits(prior, self.estimates(network, y, seed), test, std, levels)
        found = collect(prior_bits(self.diffusion, y), [*terms, (1, last)])
        parts = (found.total, found.prior, float(found.kl.sum()), found.decoder)
        return [f"{bits:.3f}" for bits in parts]

    def samples(self, network: nn.Module, seed: int, clip: bool) -> tuple[str, str]:
        """Fréchet distance of samples to the held-out images, and the seconds to draw them."""
        process, began = PriorDiffusion(self.prior), process_time()
        key = Key.of(seed, range(DRAWN))
        table = ancestral_table(self.diffusion.schedule, "eps", range(LEVELS, -1, -1), "posterior")
        x = process.initial((DRAWN, *self.data.shape), key)
        for state in process.sample_progressive(
            self.diffusion, network, x, key, table, clip_denoised=clip
        ):
            x = state.x
        seconds, drawn = process_time() - began, to_levels(x, self.data.levels)
        train, test = self.data.train.numpy(), self.data.test.numpy()
        distance = pca_frechet(train, drawn.numpy(), test)
        return f"{distance:.1f}", f"{seconds:.1f}"


def row(name: str, subject: Subject, updates: int, seed: int) -> str:
    """One line of the table."""
    data, (network, seconds) = subject.data, subject.train(updates, seed)
    bits = subject.bound(network, seed)
    (clipped, slow), (free, fast) = (subject.samples(network, seed, clip) for clip in (True, False))
    cells = [data.name, name, *bits, clipped, free, f"{seconds:.0f}", slow, fast]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=("digits", "contrast"), default="digits")
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--floors", type=float, nargs="*", default=[1.0])
    parser.add_argument("--ends", nargs="*", choices=("typical", "widest"), default=["typical"])
    parser.add_argument("--coarser", type=float, default=1.0, help="factor of the finest noise")
    parser.add_argument("--without-plain", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = load_images("digits") if asked.data == "digits" else contrast_digits()
    subjects = {} if asked.without_plain else {
        "N(0, 1)": Subject.of(data, no_prior(data.shape), "widest", asked.coarser)
    }  # fmt: skip
    for floor, end in product(asked.floors, asked.ends):
        prior = Prior.fit(data.train, data.levels, floor)
        subjects[f"fitted, floor {floor:g}, {end} end"] = Subject.of(
            data, prior, end, asked.coarser
        )
    print(f"| {' | '.join(HEADINGS)} |\n|{' --- |' * len(HEADINGS)}", flush=True)
    for name, subject in subjects.items():
        print(row(name, subject, asked.updates, asked.seed), flush=True)


if __name__ == "__main__":
    main()
