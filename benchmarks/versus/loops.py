"""The three loops: our trainer, a loop as in diffusers' example, denoising-diffusion-pytorch's."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from unittest.mock import patch

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.versus import common
from benchmarks.versus.common import Loop, Network, Process, Start, Weights, copied
from ddpm.bench.peer_calls import DIFFUSERS, LUCIDRAINS
from ddpm.bench.training_runs import Pictures, endless, picture, quietly
from ddpm.training.trainer import Trainer

NEVER = 10**9
CPU = torch.device("cpu")


class Ours:
    """The trainer behind `ddpm train`, with the preset of Fashion-MNIST."""

    def __init__(self, start: Start) -> None:
        config = replace(start.config, steps=start.planned)
        self.trainer = Trainer(config, start.data.train, CPU)
        self.trainer.model.train()
        log_snr = config.schedule.build().log_snr[1:]
        self.process = Process(functional.logsigmoid(log_snr), config.prediction, 1)
        self.settings: dict[str, object] = {
            "schedule": asdict(config.schedule),
            "optimiser": asdict(config.optimiser),
            "objective": asdict(config.objective),
            "level_sampling": config.level_sampling,
        }

    def update(self) -> None:
        """One update, its loss read as the peers read theirs."""
        float(self.trainer.update().loss)

    def weights(self) -> dict[str, Weights]:
        """Weights and averages."""
        raw, ema = self.trainer.model.state_dict(), self.trainer.ema.tensors()
        return {"raw": copied(raw), "ema": copied(ema)}


class DiffusersLoop:
    """The loop of the example script of diffusers for unconditional training, its defaults.

    Learning rate 1e-4 after 500 updates of warm-up, then falling along a cosine; AdamW with betas
    0.95 and 0.999; averages with the script's own warm-up. Tuned: our rate and warm-up.
    """

    def __init__(self, start: Start) -> None:
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        torch.default_generator.manual_seed(start.config.seed)
        ours = start.config.optimiser
        rate, warmup = (ours.learning_rate, ours.warmup) if start.tuned else (1e-4, 500)
        self.network = Network(start.network(), start.data.shape[0]).train()
        self.scheduler = DDPMScheduler(num_train_timesteps=common.LEVELS, beta_schedule="linear")
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=rate, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        self.rates = get_scheduler(
            "cosine", self.optimiser, num_warmup_steps=warmup, num_training_steps=start.planned
        )
        self.average = EMAModel(
            self.network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75
        )
        pictures = Pictures(start.pictures())
        loader = DataLoader(pictures, batch_size=start.config.batch_size, shuffle=True)
        self.batches = endless(loader)
        log_alpha_bar = self.scheduler.alphas_cumprod.double().log()
        self.process = Process(log_alpha_bar, "eps", 0)
        self.settings: dict[str, object] = {
            "schedule": "linear", "levels": common.LEVELS, "learning_rate": rate,
            "warmup": warmup, "betas": [0.95, 0.999], "weight_decay": 1e-6, "decay": "cosine",
            "gradient_clip": 1.0, "ema": "at most 0.9999, warm-up power 3/4",
        }  # fmt: skip

    def update(self) -> None:
        """One update, as the body of the script's loop."""
        clean = next(self.batches)
        noise = torch.randn_like(clean)
        t = torch.randint(0, self.scheduler.config.num_train_timesteps, (len(clean),))
        output = self.network(self.scheduler.add_noise(clean, noise, t), t)
        loss = functional.mse_loss(output.float(), noise.float())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.rates.step()
        self.optimiser.zero_grad()
        self.average.step(self.network.parameters())
        # The script logs the loss of every update.
        loss.detach().item()

    def weights(self) -> dict[str, Weights]:
        """Weights and averages, which are kept in the order of the parameters."""
        inner = self.network.inner
        names = [name for name, _ in inner.named_parameters()]
        ema = dict(zip(names, self.average.shadow_params, strict=True))
        return {"raw": copied(inner.state_dict()), "ema": copied(ema)}


class LucidrainsLoop:
    """GaussianDiffusion and Trainer of denoising-diffusion-pytorch, their defaults.

    Prediction of v, sigmoid schedule, Adam at 1e-4 without warm-up or decay, averages of 0.995
    taken every 10 updates. Images are read from files, as its Trainer does. No picture is flipped
    and no samples are drawn on the way. Tuned: our rate, averages taken at every update.
    """

    def __init__(self, start: Start) -> None:
        peer = import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch")
        torch.default_generator.manual_seed(start.config.seed)
        rate = start.config.optimiser.learning_rate if start.tuned else 1e-4
        every = 1 if start.tuned else 10
        pictures = start.folder / "pictures"
        pictures.mkdir()
        for number, image in enumerate(start.pictures()):
            picture(image).save(pictures / f"{number:06d}.png")
        channels, side, _ = start.data.shape
        self.network = Network(start.network(), channels)
        self.diffusion = peer.GaussianDiffusion(
            self.network, image_size=side, timesteps=common.LEVELS
        )
        make = partial(
            peer.Trainer, self.diffusion, str(pictures), train_lr=rate, train_num_steps=0,
            train_batch_size=start.config.batch_size, augment_horizontal_flip=False,
            ema_update_every=every, save_and_sample_every=NEVER, calculate_fid=False,
            results_folder=str(start.folder / "results"),
        )  # fmt: skip
        # Its loader has a process for each core; here all work is to count, and on one core.
        with patch.object(peer, "cpu_count", lambda: 0):
            self.trainer = quietly(make)
        log_alpha_bar = self.diffusion.alphas_cumprod.double().log()
        self.process = Process(log_alpha_bar, self.diffusion.objective, 0)
        self.settings: dict[str, object] = {
            "schedule": "sigmoid", "levels": common.LEVELS, "learning_rate": rate,
            "betas": [0.9, 0.99], "gradient_clip": 1.0, "decay": "constant", "warmup": 0,
            "ema": f"at most 0.995, every {every}",
        }  # fmt: skip

    def update(self) -> None:
        """One update of its Trainer."""
        self.trainer.train_num_steps += 1
        quietly(self.trainer.train)

    def weights(self) -> dict[str, Weights]:
        """Weights and averages."""
        average = self.trainer.ema.ema_model.model.inner.state_dict()
        return {"raw": copied(self.network.inner.state_dict()), "ema": copied(average)}


@dataclass(frozen=True)
class Kind:
    """One of the loops.

    Attributes:
        make: Begins it.
        peer: The package that it needs, or None.
        plans: Whether its learning rate falls over a number of updates known beforehand.
    """

    make: Callable[[Start], Loop]
    peer: str | None
    plans: bool


LOOPS = {
    "ours": Kind(Ours, None, plans=True),
    "diffusers": Kind(DiffusersLoop, DIFFUSERS, plans=True),
    "lucidrains": Kind(LucidrainsLoop, LUCIDRAINS, plans=False),
}
