"""The variational autoencoder as a family of models: a process of one level.  L-1-arch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ddpm import vae
from ddpm.errors import check
from ddpm.keys import Key
from ddpm.models.vae import Vae
from ddpm.processes.base import Batch, WithoutConstants, check_label, check_unused
from ddpm.samplers.loop import Model, State
from ddpm.samplers.sampler import Sampler

SAMPLERS = ("ancestral",)


class VaeProcess(WithoutConstants):
    """The bound of a variational autoencoder.

    Args:
        latent: Latent coordinates of the model.
    """

    def __init__(self, latent: int) -> None:
        self.latent = latent

    @property
    def levels(self) -> int:
        """One: its latents are the only level."""
        return 1

    def losses(self, network: Model, batch: Batch) -> Tensor:
        """See `Process.losses`."""
        return vae.training_losses(network, batch.images, batch.key, batch.weight, self.latent)

    def trained(self, model: nn.Module) -> "TrainedVae":
        """See `Process.trained`."""
        assert isinstance(model, Vae)
        return TrainedVae(model)


@dataclass(frozen=True, eq=False)
class TrainedVae:
    """A trained autoencoder.

    Attributes:
        model: Encoder and decoder.
    """

    model: Vae

    @property
    def levels(self) -> int:
        """See `Trained.levels`."""
        return 1

    @property
    def samplers(self) -> tuple[str, ...]:
        """See `Trained.samplers`."""
        return SAMPLERS

    @property
    def usual(self) -> Sampler:
        """See `Trained.usual`."""
        return Sampler()

    @property
    def classes(self) -> int:
        """It knows none."""
        return 0

    def check(self, sampler: Sampler) -> int:
        """See `Trained.check`."""
        check(sampler.name in SAMPLERS, "sampler", sampler.name, "ancestral for an autoencoder")
        check(sampler.steps in (None, 1), "steps", sampler.steps, "1 for an autoencoder")
        check_unused(sampler, ("steps",), "an autoencoder")
        check_label(sampler, 0)
        return 1

    def start(self, shape: Sequence[int], key: Key, sampler: Sampler) -> State | None:
        """None: it begins with latents."""

    def sample(
        self, shape: Sequence[int], key: Key, sampler: Sampler, labels: Tensor | None = None
    ) -> Iterator[State]:
        """Yield one state: the middle of each pixel's law, given latents of the prior."""
        yield State(vae.sample(self.model, shape, key), 0, 1, 1)

    def fit_decoder(self, images: Tensor, labels: Tensor | None, seed: int) -> float | None:
        """Nothing is left open: the network gives every scale."""

    def prior_bits(self, images: Tensor, labels: Tensor | None, seed: int) -> float:
        """KL from the encoder to the prior of the latents, in bits/dim of the images.  L-1.3."""
        return vae.elbo_bits(self.model, images, seed)[0]

    def terms(
        self, images: Tensor, labels: Tensor | None, seed: int, decoder_std: float | None
    ) -> Iterator[tuple[int, float]]:
        """Yield the decoder's term."""
        yield 1, vae.elbo_bits(self.model, images, seed)[1]
