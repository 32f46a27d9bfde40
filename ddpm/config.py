"""Configuration of a run: frozen, checked at construction, complete and reloadable."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import nn

from ddpm.discrete.process import Transition
from ddpm.errors import InputError, check
from ddpm.models.network import NetworkConfig, build_network
from ddpm.models.unet import UNetConfig
from ddpm.objectives import Objective
from ddpm.predictions import TRAINABLE, Prediction
from ddpm.processes.choose import check_combination, network_shape
from ddpm.samplers.variances import FixedVariance, LearnedVariance
from ddpm.schedule import Schedule, ScheduleKind
from ddpm.training.level_samplers import LevelSampling
from ddpm.weightings import WEIGHTINGS, Weighting

Precision = Literal["float32", "bfloat16", "float16"]
Decay = Literal["cosine", "linear", "constant"]
TrainedVariance = Literal[FixedVariance, LearnedVariance]
ProcessKind = Literal["gaussian", "discrete", "vae"]
PriorKind = Literal["standard", "data"]
MOST_LEVELS = 1_000_000
"""Levels of a schedule; more are a slip of the hand, and their tables would fill the memory."""

# More than these are a slip of the hand or of a file, and would take the memory of any machine.
MOST_IN_A_BATCH = 2**24
MOST_PIXELS = 2**16
MOST_THREADS = 4096


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Which noise schedule; unused fields keep their defaults."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: ScheduleKind | Literal["learned"] = "log_snr_linear"
    """Shape of the schedule; a learned one begins as log_snr_linear and keeps its ends."""
    levels: int = 500
    """Number of levels T."""
    log_snr_max: float = 9.2
    """Log-SNR of level 1, for log_snr_linear."""
    log_snr_min: float = -9.2
    """Log-SNR of level T, for log_snr_linear."""
    beta_start: float = 1e-4
    """First of the thousand betas, for linear."""
    beta_end: float = 0.02
    """Last of the thousand betas, for linear."""
    zero_terminal_snr: bool = False
    """Whether the last level is changed to keep no signal at all."""

    def __post_init__(self) -> None:
        check(1 <= self.levels <= MOST_LEVELS, "levels", self.levels, f"1 to {MOST_LEVELS}")
        self.build()

    def build(self) -> Schedule:
        """The schedule, or where it is learned the one that it begins with.

        Raises:
            ValueError: a field is out of range.
        """
        if self.kind == "linear":
            found = Schedule.linear(self.levels, self.beta_start, self.beta_end)
        elif self.kind == "cosine":
            found = Schedule.cosine(self.levels)
        else:
            found = Schedule.log_snr_linear(self.levels, self.log_snr_max, self.log_snr_min)
        return found.with_zero_terminal_snr() if self.zero_terminal_snr else found


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What the network is trained for; see `ddpm.objectives.Loss`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Objective | None = None
    """simple, hybrid or vlb; None for simple with a fixed variance, hybrid with a learned one."""
    weighting: Weighting = "simple"
    """Weight of the squared error by level, see `ddpm.weightings.weight_table`."""
    bound_rate: float = 0.001
    """Share of the bound in the hybrid loss."""

    def __post_init__(self) -> None:
        allowed = get_args(Objective)
        check(self.kind is None or self.kind in allowed, "objective", self.kind, ", ".join(allowed))
        check(self.weighting in WEIGHTINGS, "weighting", self.weighting, ", ".join(WEIGHTINGS))
        rate = self.bound_rate
        check(0 <= rate < math.inf, "bound_rate", rate, "a finite number of at least 0")


@dataclass(frozen=True, kw_only=True)
class DiscreteConfig:
    """Diffusion of grey levels; the number of levels T is that of the schedule."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    transition: Transition = "absorbing"
    """What becomes of a grey level: a mask (absorbing), or another one (uniform)."""
    auxiliary: float = 0.001
    """Share of the cross-entropy of the clean image in the loss."""

    def __post_init__(self) -> None:
        allowed = get_args(Transition)
        check(self.transition in allowed, "transition", self.transition, " or ".join(allowed))
        rate = self.auxiliary
        check(0 <= rate < math.inf, "auxiliary", rate, "a finite number of at least 0")


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW with warm-up, cosine decay and an exponential moving average of the weights."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    learning_rate: float = 2e-3
    """Peak learning rate."""
    warmup: int = 100
    """Updates over which the learning rate rises linearly."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    decay: Decay = "cosine"
    """How the learning rate falls after the warm-up."""
    ema_decay: float = 0.999
    """Limit of the decay of the averaged weights."""
    ema_others: tuple[float, ...] = ()
    """Limits of further averages, kept beside the first."""

    def __post_init__(self) -> None:
        check(
            self.learning_rate > 0 and math.isfinite(self.learning_rate),
            "learning_rate", self.learning_rate, "a positive number",
        )  # fmt: skip
        check(self.warmup >= 0, "warmup", self.warmup, "at least 0")
        check(0 <= self.weight_decay < 1, "weight_decay", self.weight_decay, "[0, 1)")
        check(self.gradient_clip > 0, "gradient_clip", self.gradient_clip, "a positive number")
        check(self.decay in get_args(Decay), "decay", self.decay, ", ".join(get_args(Decay)))
        for rate in (self.ema_decay, *self.ema_others):
            check(0 <= rate < 1, "ema_decay", rate, "[0, 1)")
        rates = (self.ema_decay, *self.ema_others)
        check(len(set(rates)) == len(rates), "ema_others", self.ema_others, "each rate once")


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """How an update is computed: what trades speed, memory and float rounding."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    precision: Precision = "float32"
    """Of the network's forward and backward pass; weights and losses stay float32."""
    compile: bool = False
    """Whether torch.compile makes the network faster, after a while of compiling."""
    channels_last: bool = False
    """Whether images lie in memory with their channels last."""
    checkpoint_activations: bool = False
    """Whether activations are computed again in the backward pass instead of kept."""
    accumulation: int = 1
    """Equal parts of a batch that are computed one after the other."""

    def __post_init__(self) -> None:
        allowed = get_args(Precision)
        check(self.precision in allowed, "precision", self.precision, ", ".join(allowed))
        check(self.accumulation >= 1, "accumulation", self.accumulation, "an integer of at least 1")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that the weights of a run depend on."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    data: str
    """Name or path of the data set."""
    data_digest: str
    """Checksum of the training images."""
    image_shape: tuple[int, int, int]
    """Channels, height and width of the images."""
    grey_levels: int
    """Number of grey levels of the images."""
    steps: int
    """Number of optimiser updates."""
    seed: int = 0
    """Key of every random number."""
    batch_size: int = 128
    """Images in an update."""
    threads: int = 1
    """Threads on a CPU; a sum depends on how it is shared out."""
    process: ProcessKind = "gaussian"
    """Which family of models; fields of another family keep their defaults."""
    prediction: Prediction = "eps"
    """What the network outputs."""
    variance: TrainedVariance = "posterior"
    """Variance of the reverse steps."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """What the network is trained for."""
    level_sampling: LevelSampling = "uniform"
    """How training draws levels."""
    label_dropout: float = 0.1
    """Share of the labels that training hides, so that the network knows both; with classes."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """The noise schedule."""
    prior: PriorKind = "standard"
    """What the noise ends as: standard normal, or with the mean and the variances of the data."""
    discrete: DiscreteConfig = field(default_factory=DiscreteConfig)
    """How grey levels change, for discrete."""
    model: NetworkConfig = field(default_factory=UNetConfig)
    """Sizes of the network."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """How the weights are updated."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    """How an update is computed."""
    skip_broken: bool = False
    """Whether broken images were left out."""

    def __post_init__(self) -> None:
        check(1 <= self.steps < 2**63, "steps", self.steps, "1 to 2^63 - 1")
        check(-(2**63) <= self.seed < 2**63, "seed", self.seed, "a signed 64-bit integer")
        largest = MOST_IN_A_BATCH
        check(1 <= self.batch_size <= largest, "batch_size", self.batch_size, f"1 to {largest}")
        sides = all(1 <= n <= MOST_PIXELS for n in self.image_shape)
        check(sides, "image_shape", self.image_shape, f"1 to {MOST_PIXELS} each")
        check(self.prediction in TRAINABLE, "prediction", self.prediction, ", ".join(TRAINABLE))
        check(
            self.batch_size % self.compute.accumulation == 0,
            "accumulation", self.compute.accumulation, f"a divisor of the batch, {self.batch_size}",
        )  # fmt: skip
        check(1 <= self.threads <= MOST_THREADS, "threads", self.threads, f"1 to {MOST_THREADS}")
        check(2 <= self.grey_levels <= 256, "grey_levels", self.grey_levels, "2 to 256")
        allowed = get_args(LevelSampling)
        check(
            self.level_sampling in allowed,
            "level_sampling", self.level_sampling, ", ".join(allowed),
        )  # fmt: skip
        check(0 <= self.label_dropout < 1, "label_dropout", self.label_dropout, "[0, 1)")
        check_combination(self)

    @property
    def classes(self) -> int:
        """Number of classes that the network knows; 0 for none."""
        return getattr(self.model, "classes", 0)

    def network(self) -> nn.Module:
        """The network, with torch's own initial weights."""
        shape, outputs = network_shape(self)
        return build_network(self.model, shape, outputs, self.grey_levels)


def log_snr_end(grey_levels: int) -> float:
    """Log-SNR of level 1 that suits data with this many grey levels.

    Noise much finer than the spacing of the grey levels carries no information about them, so
    levels spent there are wasted; the chain ends where its noise is 0.32 of the spacing, and the
    decoder rounds the rest away.
    """
    sigma = 0.32 * 2 / (grey_levels - 1)
    return math.log1p(-(sigma**2)) - 2 * math.log(sigma)


def log_snr_start(dimensions: int) -> float:
    """Log-SNR of level T that suits images with this many values.

    A sampler starts from pure noise, so the last level must hide the image as a whole: what the
    values have in common adds up over all of them. The SNR times their number ends at exp(-2).
    """
    return -2.0 - math.log(dimensions)


def to_json(config: RunConfig) -> str:
    """The configuration as JSON text, the inverse of `from_json`."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: bytes, source: Path) -> RunConfig:
    """Read a configuration.

    Raises:
        InputError: naming the file, the field and what is wrong with it.
    """
    try:
        return TypeAdapter(RunConfig).validate_json(text)
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        reason = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{source}: {where}: {reason}") from None
