"""What the user asked `ddpm train` for, completed by defaults that suit the data."""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ddpm.commands.runtime import choose_threads
from ddpm.config import (
    ComputeConfig,
    OptimiserConfig,
    RunConfig,
    ScheduleConfig,
    log_snr_end,
    log_snr_start,
)
from ddpm.data.images import ImageData
from ddpm.data.load import canonical_source
from ddpm.data.streamed import StreamedData
from ddpm.errors import InputError, check
from ddpm.models.unet import UNetConfig
from ddpm.predictions import canonical
from ddpm.trainer import PARALLEL

Data = ImageData | StreamedData

TRACKERS = ("wandb", "trackio")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for; None where the default is to decide."""

    data: str | None = None
    steps: int | None = None
    minutes: float | None = None
    seed: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    prediction: str | None = None
    schedule: str | None = None
    levels: int | None = None
    beta_start: float | None = None
    beta_end: float | None = None
    channels: int | None = None
    dropout: float | None = None
    threads: int | None = None
    decay: str | None = None
    ema: tuple[float, ...] = ()
    precision: str | None = None
    compile: bool | None = None
    channels_last: bool | None = None
    checkpoint_activations: bool | None = None
    accumulation: int | None = None
    skip_broken: bool | None = None


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What may change from one start of a run to the next: the machine, and what is looked at.

    Attributes:
        device: auto, cpu or cuda.
        checkpoint_every: Updates between checkpoints.
        parallel: How several ranks share the network, "ddp" or "fsdp".
        workers: Processes that read images ahead, where they are streamed.
        stream: Whether images are read while training; None is by their size.
        sample_every: Updates between grids of samples; 0 draws none.
        tracker: "wandb" or "trackio", or None.

    Raises:
        InputError: a value is not allowed.
    """

    device: str = "auto"
    checkpoint_every: int = 500
    parallel: str = "ddp"
    workers: int = 0
    stream: bool | None = None
    sample_every: int = 0
    tracker: str | None = None

    def __post_init__(self) -> None:
        every = self.checkpoint_every
        check(every >= 1, "checkpoint_every", every, "an integer of at least 1")
        check(self.parallel in PARALLEL, "parallel", self.parallel, ", ".join(PARALLEL))
        check(self.workers >= 0, "workers", self.workers, "an integer of at least 0")
        check(self.sample_every >= 0, "sample_every", self.sample_every, "an integer of at least 0")
        allowed = self.tracker is None or self.tracker in TRACKERS
        check(allowed, "tracker", self.tracker, ", ".join(TRACKERS))


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Sizes of the network and of an update that suit images of some size."""

    batch_size: int
    learning_rate: float
    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]


SMALL_SIDE = 16
# Measured on the 8 x 8 digits: at equal time, width at both resolutions and small batches with a
# high rate gave fewer bits per dimension than depth, larger batches or a lower rate.
SMALL = Defaults(
    batch_size=64, learning_rate=4e-3, channels=48, multipliers=(1, 1), blocks=1, attention=(1,)
)
LARGE = Defaults(
    batch_size=128, learning_rate=1e-3, channels=32, multipliers=(1, 2, 2), blocks=2, attention=(2,)
)


def make_config(request: Request, data: Data, source: str) -> RunConfig:
    """The complete configuration of a new run: what was asked for, and defaults fit for the data.

    Raises:
        InputError: a value is out of range.
    """
    minutes, steps = request.minutes, request.steps
    check(minutes is None or steps is None, "steps and minutes", (steps, minutes), "one of the two")
    check(minutes is None or 0 < minutes < 1e6, "minutes", minutes, "a positive number")
    defaults = SMALL if min(data.shape[1:]) < SMALL_SIDE else LARGE
    asked = {name: getattr(request, name) for name in ("batch_size", "channels", "learning_rate")}
    chosen = replace(defaults, **{k: v for k, v in asked.items() if v is not None})
    try:
        return RunConfig(
            data=source,
            data_digest=data.digest(),
            image_shape=data.shape,
            grey_levels=data.levels,
            steps=1 if steps is None else steps,
            seed=request.seed or 0,
            batch_size=chosen.batch_size,
            threads=_threads(request, chosen, data),
            prediction=canonical(request.prediction or "eps"),
            schedule=_schedule(request, data),
            model=UNetConfig(
                image_channels=data.shape[0],
                channels=chosen.channels,
                multipliers=chosen.multipliers,
                blocks=chosen.blocks,
                attention=chosen.attention,
                dropout=0.1 if request.dropout is None else request.dropout,
            ),
            optimiser=_optimiser(request, chosen),
            compute=ComputeConfig(**_given(request, ComputeConfig)),
            skip_broken=bool(request.skip_broken),
        )
    except ValueError as error:
        raise InputError(str(error)) from None


def _given(request: Request, kind: type) -> dict[str, Any]:
    """What the user asked for among the fields of a part of the configuration."""
    names = {field.name for field in fields(kind)} & {field.name for field in fields(request)}
    return {n: value for n in names if (value := getattr(request, n)) is not None}


def _optimiser(request: Request, chosen: Defaults) -> OptimiserConfig:
    options: dict[str, Any] = {"learning_rate": chosen.learning_rate}
    if request.decay is not None:
        options["decay"] = request.decay
    if request.ema:
        options |= {"ema_decay": request.ema[0], "ema_others": request.ema[1:]}
    return OptimiserConfig(**options)


def _schedule(request: Request, data: Data) -> ScheduleConfig:
    kind = request.schedule or "log_snr_linear"
    allowed = ("log_snr_linear", "linear", "cosine")
    check(kind in allowed, "schedule", kind, ", ".join(allowed))
    options: dict[str, Any] = {
        "kind": kind,
        "log_snr_max": log_snr_end(data.levels),
        "log_snr_min": log_snr_start(math.prod(data.shape)),
    }
    for name in ("levels", "beta_start", "beta_end"):
        if (value := getattr(request, name)) is not None:
            options[name] = value
    return ScheduleConfig(**options)


def _threads(request: Request, chosen: Defaults, data: Data) -> int:
    if request.threads is not None:
        return request.threads
    return choose_threads(chosen.batch_size * chosen.channels * math.prod(data.shape[1:]))


def check_same(request: Request, config: RunConfig, data: Data) -> None:
    """Refuse options that the run, once begun, cannot follow any more."""
    check(
        request.minutes is None,
        "minutes",
        request.minutes,
        f"nothing with --resume, the run goes on to its {config.steps} updates",
    )
    have = {
        "data": config.data,
        "steps": config.steps,
        "seed": config.seed,
        "batch_size": config.batch_size,
        "learning_rate": config.optimiser.learning_rate,
        "prediction": config.prediction,
        "schedule": config.schedule.kind,
        "levels": config.schedule.levels,
        "beta_start": config.schedule.beta_start,
        "beta_end": config.schedule.beta_end,
        "channels": config.model.channels,
        "dropout": config.model.dropout,
        "threads": config.threads,
        "decay": config.optimiser.decay,
        "ema": (config.optimiser.ema_decay, *config.optimiser.ema_others),
        "skip_broken": config.skip_broken,
        **asdict(config.compute),
    }
    for field in fields(request):
        value = getattr(request, field.name)
        if field.name == "data" and value is not None:
            value = canonical_source(value)
        if field.name in have and value not in (None, ()) and value != have[field.name]:
            raise InputError(
                f"{field.name} = {value!r}: the run has {have[field.name]!r}; allowed with "
                "--resume is that or nothing"
            )
    if data.digest() != config.data_digest:
        raise InputError(f"data = {config.data}: its images are not those that the run began with")
