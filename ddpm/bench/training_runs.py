"""Whole training loops of three libraries around the same network, on the same images.

Ours, the loop of the example scripts of `diffusers`, and the Trainer of
`denoising-diffusion-pytorch`, each as a user runs it: loading of data, loss, clipping to norm 1,
AdamW (Adam in the last), and averaged weights.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from ddpm.bench.assemble import OURS
from ddpm.bench.peer_calls import DIFFUSERS, LUCIDRAINS, missing, missing_to_train
from ddpm.config import OptimiserConfig, RunConfig, ScheduleConfig
from ddpm.models.unet import UNetConfig
from ddpm.training.trainer import Trainer

LEVELS = 1000
RATE = 1e-4
DECAY = 0.995
PLENTY = 1_000_000
"""Updates that no loop here reaches."""

Updates = Callable[[int], None]
"""Trains for a number of updates; called again it goes on."""


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        images: uint8 [N, C, H, W], H = W.
        batch_size: Images in an update.
        widths: Channels of the resolutions of the network.
        folder: Where images can be written as files.
        device: Where to train.
    """

    images: Tensor
    batch_size: int
    widths: tuple[int, ...]
    folder: Path
    device: torch.device

    def network(self) -> nn.Module:
        """`diffusers.UNet2DModel`, the same weights each time."""
        from diffusers import UNet2DModel

        channels, side, _ = self.images.shape[1:]
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(0)
            model: nn.Module = UNet2DModel(
                sample_size=side,
                in_channels=channels,
                out_channels=channels,
                layers_per_block=1,
                block_out_channels=self.widths,
                down_block_types=("DownBlock2D",) * len(self.widths),
                up_block_types=("UpBlock2D",) * len(self.widths),
                norm_num_groups=8,
            )
        return model.to(self.device)


class Plain(nn.Module):
    """The network as a function of images and levels that returns a tensor.

    Args:
        inner: A `diffusers.UNet2DModel`.
        channels: Of the images.
    """

    def __init__(self, inner: nn.Module, channels: int) -> None:
        super().__init__()
        self.inner = inner
        # What the Trainer of denoising-diffusion-pytorch asks of a network.
        self.channels = self.out_dim = channels
        self.self_condition = self.random_or_learned_sinusoidal_cond = False

    def forward(self, x: Tensor, t: Tensor, conditions: None = None) -> Tensor:
        """The prediction."""
        del conditions
        output: Tensor = self.inner(x, t).sample
        return output


def loops(task: Task) -> dict[str, Updates | str]:
    """The training loops by the name of the library; why not, where one cannot take part."""
    if reason := missing(DIFFUSERS):
        return {OURS: f"its network is that of {DIFFUSERS}: {reason}"}
    return {
        OURS: ours(task),
        DIFFUSERS: missing_to_train(DIFFUSERS) or diffusers_loop(task),
        LUCIDRAINS: missing_to_train(LUCIDRAINS) or lucidrains_loop(task),
    }


def ours(task: Task) -> Updates:
    """Our trainer, its network in place of our own."""
    channels, height, width = task.images.shape[1:]
    config = RunConfig(
        data="images", data_digest="", image_shape=(channels, height, width), grey_levels=256,
        steps=PLENTY, batch_size=task.batch_size, threads=torch.get_num_threads(),
        schedule=ScheduleConfig(kind="linear", levels=LEVELS),
        model=UNetConfig(image_channels=channels),
        optimiser=OptimiserConfig(learning_rate=RATE, ema_decay=DECAY),
    )  # fmt: skip
    network = Plain(task.network(), channels)
    trainer = Trainer(config, task.images, task.device, model=network)

    def advance(updates: int) -> None:
        for _ in range(updates):
            record = trainer.update()
        float(record.loss)

    return advance


class Pictures(Dataset[Tensor]):
    """Images made ready one by one, as the transforms of the examples of diffusers do."""

    def __init__(self, images: Tensor) -> None:
        from torchvision import transforms

        self.images = [picture(image) for image in images]
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        made: Tensor = self.transform(self.images[index])
        return made


def diffusers_loop(task: Task) -> Updates:
    """The loop of the example scripts of diffusers for unconditional training."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    network = task.network()
    scheduler = DDPMScheduler(LEVELS)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=RATE, betas=(0.95, 0.999), weight_decay=1e-6
    )
    average = EMAModel(network.parameters(), decay=DECAY)
    loader = DataLoader(Pictures(task.images), batch_size=task.batch_size, shuffle=True)
    batches = endless(loader)

    def advance(updates: int) -> None:
        network.train()
        for _ in range(updates):
            clean = next(batches).to(task.device)
            noise = torch.randn_like(clean)
            t = torch.randint(0, LEVELS, (len(clean),), device=task.device)
            output = network(scheduler.add_noise(clean, noise, t), t).sample
            loss = functional.mse_loss(output.float(), noise.float())
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            average.step(network.parameters())
            # As its example logs the loss of every update.
            loss.detach().item()

    return advance


def lucidrains_loop(task: Task) -> Updates:
    """The Trainer of denoising-diffusion-pytorch, which reads a folder of image files."""
    from denoising_diffusion_pytorch import GaussianDiffusion
    from denoising_diffusion_pytorch import Trainer as Theirs

    channels, side, _ = task.images.shape[1:]
    pictures = task.folder / "pictures"
    pictures.mkdir()
    for number, image in enumerate(task.images):
        picture(image).save(pictures / f"{number:06d}.png")
    diffusion = GaussianDiffusion(
        Plain(task.network(), channels), image_size=side, timesteps=LEVELS, beta_schedule="linear"
    )
    trainer = quietly(
        partial(
            Theirs, diffusion, str(pictures), train_batch_size=task.batch_size, train_lr=RATE,
            augment_horizontal_flip=False, train_num_steps=0, save_and_sample_every=PLENTY,
            ema_decay=DECAY, calculate_fid=False, results_folder=str(task.folder / "results"),
        )
    )  # fmt: skip

    def advance(updates: int) -> None:
        trainer.train_num_steps += updates
        quietly(trainer.train)

    return advance


def quietly(call: Callable[[], Any]) -> Any:
    """Run what prints a bar of its own, and what its dependencies warn of."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        return call()


def endless(loader: "DataLoader[Tensor]") -> Iterator[Tensor]:
    """Batches of a loader, which begins anew when it has given all."""
    while True:
        yield from loader


def picture(image: Tensor) -> Image.Image:
    """An image [C, H, W] as the library of image files has it."""
    pixels = image.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
