"""What the three training loops share: the network, the images, and what a loop has to offer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from ddpm.bench.peer_calls import missing_to_train
from ddpm.bench.training_runs import Plain
from ddpm.commands.defaults import make_config
from ddpm.commands.request import Request
from ddpm.config import RunConfig
from ddpm.data.images import ImageData
from ddpm.errors import InputError
from ddpm.evaluation.extractors import as_rgb
from ddpm.models.initialise import build

LEVELS = 1000
"""Levels of the peers, their own default."""

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Process:
    """What a network was trained to do, in terms that belong to no library.

    Attributes:
        log_alpha_bar: Logarithm of the signal power at levels 1..T, float64 [T].
        prediction: What the network outputs, as `ddpm.predictions.canonical` knows it.
        first_level: What the network is told at level 1.
    """

    log_alpha_bar: Tensor
    prediction: str
    first_level: int


class Loop(Protocol):
    """A training loop of some library.

    Attributes:
        process: What the network is trained to do.
        settings: What the loop was set to, for the record.
    """

    process: Process
    settings: dict[str, object]

    def update(self) -> None:
        """Do one optimiser update."""

    def weights(self) -> dict[str, Weights]:
        """The network's weights: "raw", and "ema" for the averages that the library keeps."""


@dataclass(frozen=True)
class Start:
    """What every loop begins with.

    Attributes:
        config: Network, batch and seed; all of it is ours, and the peers read these three.
        data: The images.
        planned: Updates after which a falling learning rate reaches zero.
        folder: An empty folder for files.
        tuned: Whether a peer gets our learning rate and warm-up in place of its own.
    """

    config: RunConfig
    data: ImageData
    planned: int
    folder: Path
    tuned: bool = False

    def network(self) -> nn.Module:
        """The network with the initial weights of the seed, the same for every loop."""
        return build(self.config.network, self.config.seed, "cpu")

    def pictures(self) -> Tensor:
        """The training images as the image files of the peers have them: uint8, 0..255."""
        images = as_rgb(self.data.train, self.data.levels)[:, : self.data.shape[0]]
        return images.contiguous()


class Network(Plain):
    """Our network as the peers call theirs, the condition that they may give left out."""

    def forward(self, x: Tensor, t: Tensor, conditions: None = None) -> Tensor:
        """The prediction for images [B, C, H, W] at levels [B], numbered as the peer does."""
        del conditions
        output: Tensor = self.inner(x, t)
        return output


def configure(data: ImageData, source: str, seed: int, batch_size: int) -> RunConfig:
    """What `ddpm train --preset fashion-mnist` does, whatever the images, on one thread.

    Raises:
        InputError: an argument is out of range.
    """
    request = Request(
        preset="fashion-mnist", data=source, steps=1, seed=seed, batch_size=batch_size, threads=1
    )
    return make_config(request, data, source)


def require(peer: str) -> None:
    """Refuse a peer that cannot be imported.

    Raises:
        InputError: saying why.
    """
    if reason := missing_to_train(peer):
        raise InputError(f"loop: {peer} is {reason}; allowed are those of ours and of what is here")


def copied(weights: Weights) -> Weights:
    """Weights that later updates leave as they are."""
    return {name: x.detach().clone().contiguous() for name, x in weights.items()}
