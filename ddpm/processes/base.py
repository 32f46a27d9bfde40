"""What every family of models can do: be trained, drawn from, and asked how likely images are."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from ddpm.errors import InputError, check
from ddpm.flow_likelihood import FlowBits
from ddpm.keys import Key
from ddpm.samplers.loop import Model, State
from ddpm.samplers.sampler import Sampler
from ddpm.training.level_words import check_names


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows of an update.

    Attributes:
        images: uint8 [B, C, H, W], grey levels.
        t: Levels, int64 [B], in 1..T.
        weight: float32 [B], a factor of each loss, or None for ones.
        noise: Standard normal noise, float32 [B, C, H, W], or None to draw it under `key`.
        key: Where the random numbers of these rows are drawn.
        labels: Classes, int64 [B], the number of classes standing for none; None without classes.
    """

    images: Tensor
    t: Tensor
    weight: Tensor | None
    noise: Tensor | None
    key: Key
    labels: Tensor | None

    @property
    def conditions(self) -> dict[str, Tensor]:
        """What the network is told beside image and level."""
        return {} if self.labels is None else {"labels": self.labels}


class Process(Protocol):
    """One family of models, with the settings of a run."""

    @property
    def levels(self) -> int:
        """T; training draws levels from 1..T."""

    @property
    def needs_data(self) -> bool:
        """Whether it has constants of the training images, see `fit`."""

    def losses(self, network: Model, batch: Batch) -> Tensor:
        """Loss of each image, float32 [B], times its weight.

        Args:
            network: What `trainable` gave, or what the trainer has wrapped it in.
            batch: The images, and where they stand.
        """

    def trainable(self, network: nn.Module) -> nn.Module:
        """The module whose parameters are trained; most families train the network itself."""

    def fit(self, images: Callable[[int], Tensor]) -> None:
        """Take from training images the constants that `tensors` gives.

        Args:
            images: Gives at most so many training images, uint8 [N, C, H, W], the same on all
                ranks; most families do not ask.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Constants that were taken from the data, for a checkpoint; empty for most families."""

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave.

        Raises:
            InputError: naming what is missing, unknown or unfit.
        """

    def trained(self, model: nn.Module) -> "Trained":
        """The model that a trained module is, a snapshot where the module is trained on."""


class WithoutConstants:
    """What a process has that trains the network itself and takes no constants from the data."""

    @property
    def needs_data(self) -> bool:
        """It has no such constants."""
        return False

    def trainable(self, network: nn.Module) -> nn.Module:
        """The network itself."""
        return network

    def fit(self, images: Callable[[int], Tensor]) -> None:
        """Nothing."""

    def tensors(self) -> dict[str, Tensor]:
        """No tensors."""
        return {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Refuse any tensor."""
        check_names(tensors, ())


class Trained(Protocol):
    """A trained model."""

    @property
    def levels(self) -> int:
        """T."""

    @property
    def samplers(self) -> tuple[str, ...]:
        """Names of the samplers that it knows."""

    @property
    def usual(self) -> Sampler:
        """How it draws where nobody says how."""

    @property
    def classes(self) -> int:
        """Number of classes that can be asked for; 0 for none."""

    def check(self, sampler: Sampler) -> int:
        """States that `sample` yields: network calls a picture, guidance not counted.

        A sampler that chooses its own steps calls the network more often.

        Raises:
            InputError: naming what this model cannot do.
        """

    def start(self, shape: Sequence[int], key: Key, sampler: Sampler) -> State | None:
        """What `sample` with the same arguments begins with, or None where that is no image."""

    def sample(
        self, shape: Sequence[int], key: Key, sampler: Sampler, labels: Tensor | None = None
    ) -> Iterator[State]:
        """Yield the state after every step, the images to look at about in [-1, 1].

        Args:
            shape: [B, C, H, W] of the images.
            key: Its seed and sample indices draw the start and the noise of every step.
            sampler: How.
            labels: Classes to draw, int64 [B], or None for none.
        """

    def fit_decoder(self, images: Tensor, labels: Tensor | None, seed: int) -> float | None:
        """Fit what the decoder leaves open on training images; its standard deviation, or None."""

    def prior_bits(self, images: Tensor, labels: Tensor | None, seed: int) -> float:
        """KL from the end of the forward process to the prior, in bits/dim of the images."""

    def terms(
        self, images: Tensor, labels: Tensor | None, seed: int, decoder_std: float | None
    ) -> Iterator[tuple[int, float]]:
        """Yield (t, bits/dim) for t = T, ..., 2 (divergences) and last (1, decoder), one draw each.

        Args:
            images: uint8 [B, C, H, W]; image i is sample i of the evaluation noise.
            labels: Their classes, int64 [B], or None.
            seed: Key of the evaluation noise.
            decoder_std: What `fit_decoder` gave.
        """


@runtime_checkable
class ScoresEachImage(Protocol):
    """A trained model that tells the bound of each image by itself."""

    def prior_bits_by_image(self, images: Tensor) -> Tensor:
        """As `Trained.prior_bits`, float64 [B]."""

    def terms_by_image(
        self, images: Tensor, labels: Tensor | None, seed: int, decoder_std: float | None
    ) -> Iterator[tuple[int, Tensor]]:
        """As `Trained.terms`, float64 [B] each."""


@runtime_checkable
class ScoresByFlow(Protocol):
    """A trained model that has a probability flow."""

    def check_flow(self) -> None:
        """Refuse a likelihood by the flow.

        Raises:
            InputError: the extra is not installed, or the flow of this model cannot be followed.
        """

    def flow_bits(
        self, images: Tensor, labels: Tensor | None, seed: int, decoder_std: float | None
    ) -> FlowBits:
        """Bits of each image by the flow; arguments as in `Trained.terms`."""


def check_unused(sampler: Sampler, known: Collection[str], what: str) -> None:
    """Refuse choices that a model has no use for.

    Args:
        sampler: The choices; their names and labels are looked at elsewhere.
        known: Fields that the model has a use for.
        what: The model, in words.

    Raises:
        InputError: naming the choice and what is allowed.
    """
    usual = Sampler()
    for option in ("steps", "spacing", "levels", "eta", "variance", "sde", "guidance"):
        value, default = getattr(sampler, option), getattr(usual, option)
        shown = f"{default:g}" if isinstance(default, float) else default or "none"
        check(option in known or value == default, option, value, f"{shown} for {what}")
    if sampler.ilvr is not None and "ilvr" not in known:
        raise InputError(f"ilvr is given: allowed for {what} is none")


def check_label(sampler: Sampler, classes: int) -> None:
    """Refuse a class that a model does not know.

    Raises:
        InputError: naming it and the classes.
    """
    label = sampler.label
    if classes == 0:
        check(label is None, "label", label, "none for a model without classes")
    else:
        check(label is None or 0 <= label < classes, "label", label, f"0 to {classes - 1}")
