"""The training loop: a generator of records over a state that can be saved at any step."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import cast

import torch
from torch import Tensor, nn

from ddpm import checkpoint
from ddpm.config import OptimiserConfig, RunConfig
from ddpm.data.images import to_float
from ddpm.data.order import permutation
from ddpm.diffusion import GaussianDiffusion
from ddpm.ema import Ema
from ddpm.errors import InputError
from ddpm.kernels.philox import normals, words
from ddpm.kernels.streams import Stream
from ddpm.keys import Key, draw_levels
from ddpm.models.initialise import build

CHECKPOINTS_KEPT = 3
DRAWN_AT_A_TIME = 64
"""Updates whose levels and dropout seeds are drawn together, because one draw costs as much."""
NOISE_VALUES = 1 << 16
"""Values of noise that are drawn together for the same reason; a quarter of a megabyte."""


@dataclass(frozen=True, eq=False)
class Record:
    """What one update did; tensors stay on the device until somebody reads them.

    Attributes:
        step: Number of the update, from 1.
        loss: Mean loss of the batch, float32 0-d.
        gradient_norm: Norm of the gradient before clipping, float32 0-d.
        learning_rate: Learning rate of the update.
    """

    step: int
    loss: Tensor
    gradient_norm: Tensor
    learning_rate: float


def learning_rate(step: int, steps: int, config: OptimiserConfig) -> float:
    """Learning rate of update number `step` in 1..steps: linear warm-up, then half a cosine."""
    warmup = min(1.0, step / (config.warmup + 1))
    return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))


class Trainer:
    """Network, averaged network and optimiser of a run, and how an update changes them.

    The result of an update is a function of the configuration, the images and the state before it;
    nothing is read from a generator, so a trainer restored from a checkpoint goes on bit by bit.

    Args:
        config: The run.
        images: uint8 [N, C, H, W] training images.
        device: Where to train.
    """

    def __init__(self, config: RunConfig, images: Tensor, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.images = images.to(device)
        self.diffusion = GaussianDiffusion(
            config.schedule.build(), config.prediction, config.variance
        )
        self.model = build(config.network, config.seed, device)
        self.ema = Ema(self.model, config.optimiser.ema_decay)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.optimiser.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.optimiser.weight_decay,
            fused=True,
        )
        self.step = 0
        self.seconds = 0.0

    def run(self) -> Iterator[Record]:
        """Yield a record after every update until the configured number is reached."""
        self.model.train()
        while self.step < self.config.steps:
            started = perf_counter()
            record = self.update()
            self.seconds += perf_counter() - started
            yield record

    def update(self) -> Record:
        """One optimiser update.  V-alg1, G-Alg1."""
        config, number = self.config, self.step
        rate = learning_rate(number + 1, config.steps, config.optimiser)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        x_start = to_float(self.images[self._batch(number)], config.grey_levels)
        t, noise, key = self._levels(number), self._noise(number), None
        if noise is None:
            key = Key.of(config.seed, range(config.batch_size), number, self.device)
        with self._dropout_seed(number):
            losses = self.diffusion.training_losses(self.model, x_start, t, noise, key=key)
        loss = losses.mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = clip_gradient(list(self.model.parameters()), config.optimiser.gradient_clip)
        self.optimiser.step()
        self.ema.update_parameters(self.model)
        self.step += 1
        return Record(self.step, loss.detach(), norm.detach(), rate)

    def save(self, folder: Path) -> Path:
        """Write a checkpoint of the current state under a folder and return its path."""
        tensors = {
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimiser": self._optimiser_tensors(),
        }
        state = checkpoint.Checkpoint(self.step, self.seconds, tensors)
        return checkpoint.save(folder, state, CHECKPOINTS_KEPT)

    def restore(self, folder: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            InputError: the checkpoint is damaged or belongs to another network.
        """
        state = checkpoint.load(folder)
        checkpoint.restore(self.model, state.tensors["model"], folder / "model.safetensors")
        checkpoint.restore(self.ema.module, state.tensors["ema"], folder / "ema.safetensors")
        self._load_optimiser(state.tensors["optimiser"], folder / "optimiser.safetensors")
        self.ema.n_averaged.fill_(state.step)
        self.step, self.seconds = state.step, state.seconds

    def _batch(self, step: int) -> Tensor:
        """Indices of the images of an update: a window on the endless sequence of epochs."""
        count, size = len(self.images), self.config.batch_size
        position = torch.arange(step * size, (step + 1) * size)
        epochs = range(int(position[0]) // count, int(position[-1]) // count + 1)
        order = torch.cat([_order(count, epoch, self.config.seed) for epoch in epochs])
        return order[position - epochs[0] * count].to(self.device)

    def _levels(self, step: int) -> Tensor:
        """Levels of an update, int64 [batch_size]."""
        size, total = self.config.batch_size, self.diffusion.schedule.steps
        block, place = divmod(step, DRAWN_AT_A_TIME)
        return _level_table(self.config.seed, size, total, block)[place].to(self.device)

    def _noise(self, step: int) -> Tensor | None:
        """Noise of an update where keeping it is better than drawing it twice: on a CPU."""
        if self.device.type != "cpu":
            return None
        shape = (self.config.batch_size, *self.config.image_shape)
        together = max(1, min(DRAWN_AT_A_TIME, NOISE_VALUES // math.prod(shape)))
        block, place = divmod(step, together)
        return _noise_table(self.config.seed, shape, together, block)[place]

    def _dropout_seed(self, step: int) -> AbstractContextManager[None]:
        """Dropout is the one draw left to torch's generator; its seed is ours."""
        if self.config.model.dropout == 0:
            return nullcontext()
        block, place = divmod(step, DRAWN_AT_A_TIME)
        return _seeded(_dropout_seeds(self.config.seed, block)[place], self.device)

    def _optimiser_tensors(self) -> dict[str, Tensor]:
        state = self.optimiser.state_dict()["state"]
        return {f"{i}.{name}": value for i, part in state.items() for name, value in part.items()}

    def _load_optimiser(self, tensors: dict[str, Tensor], source: Path) -> None:
        parameters = list(self.model.parameters())
        fields = ("step", "exp_avg", "exp_avg_sq")
        if set(tensors) != {f"{i}.{name}" for i in range(len(parameters)) for name in fields}:
            raise InputError(f"{source}: its tensors are not the optimiser state of this network")
        parts = [{n: tensors[f"{i}.{n}"] for n in fields} for i in range(len(parameters))]
        for part, parameter in zip(parts, parameters, strict=True):
            if any(part[n].shape != parameter.shape for n in ("exp_avg", "exp_avg_sq")):
                raise InputError(f"{source}: a tensor has another shape than its parameter")
        state = self.optimiser.state_dict()
        self.optimiser.load_state_dict({**state, "state": dict(enumerate(parts))})


@lru_cache(maxsize=4)
def _order(count: int, epoch: int, seed: int) -> Tensor:
    return permutation(count, epoch, seed, Stream.DATA_ORDER)


@lru_cache(maxsize=2)
def _level_table(seed: int, size: int, total: int, block: int) -> Tensor:
    """Levels of consecutive updates [DRAWN_AT_A_TIME, size]."""
    steps = torch.arange(block * DRAWN_AT_A_TIME, (block + 1) * DRAWN_AT_A_TIME)
    sample = torch.arange(size).repeat(DRAWN_AT_A_TIME)
    key = Key(torch.tensor(seed), steps.repeat_interleave(size), sample)
    return draw_levels(key, total).view(DRAWN_AT_A_TIME, size)


@lru_cache(maxsize=1)
def _noise_table(seed: int, shape: tuple[int, ...], together: int, block: int) -> Tensor:
    """Training noise of consecutive updates, float32 [together, *shape]."""
    steps = torch.arange(block * together, (block + 1) * together).repeat_interleave(shape[0])
    sample = torch.arange(shape[0]).repeat(together)
    size = math.prod(shape[1:])
    drawn = normals(torch.tensor(seed), steps, sample, Stream.TRAINING_NOISE, size)
    return drawn.view(together, *shape)


@lru_cache(maxsize=2)
def _dropout_seeds(seed: int, block: int) -> list[int]:
    """Dropout seeds of consecutive updates."""
    steps = torch.arange(block * DRAWN_AT_A_TIME, (block + 1) * DRAWN_AT_A_TIME)
    sample = torch.zeros_like(steps)
    drawn = words(torch.tensor(seed), steps, sample, Stream.DROPOUT, 1)
    return [int(word) for word in drawn[:, 0]]


def clip_gradient(parameters: list[nn.Parameter], limit: float) -> Tensor:
    """Scale the gradient down to a norm of at most `limit` and return its norm before that.

    Args:
        parameters: Parameters with gradients; those without one are left out.
        limit: Largest norm, positive.

    Returns:
        float32 0-d.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    # On a CPU the norm can be looked at for nothing, and most gradients need no scaling.
    if norm.device.type != "cpu" or norm > limit:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators of one device inside the block and restore them after it."""
    cuda = device.type == "cuda"
    generator = (
        torch.cuda.default_generators[device.index or 0] if cuda else torch.default_generator
    )
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)


def averaged_network(config: RunConfig, folder: Path, device: torch.device) -> nn.Module:
    """The averaged network of a checkpoint, in evaluation mode.

    Raises:
        InputError: the checkpoint is damaged or belongs to another network.
    """
    state = checkpoint.load(folder, ("ema",))
    with torch.device("meta"):
        model = config.network()
    model.to_empty(device="cpu")
    checkpoint.restore(model, state.tensors["ema"], folder / "ema.safetensors")
    return cast(nn.Module, model.to(device).eval())
