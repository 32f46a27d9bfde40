"""What the user asked `ddpm train` for."""

from dataclasses import dataclass, fields

from ddpm.config import RunConfig
from ddpm.data.images import ImageData
from ddpm.data.load import canonical_source
from ddpm.data.streamed import StreamedData
from ddpm.errors import InputError, check
from ddpm.runs.recorded import recorded
from ddpm.training.trainer import PARALLEL

Data = ImageData | StreamedData

TRACKERS = ("wandb", "trackio")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for; None where the default is to decide."""

    preset: str | None = None
    data: str | None = None
    steps: int | None = None
    minutes: float | None = None
    seed: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    warmup: int | None = None
    weight_decay: float | None = None
    process: str | None = None
    prediction: str | None = None
    variance: str | None = None
    objective: str | None = None
    weighting: str | None = None
    bound_rate: float | None = None
    schedule: str | None = None
    levels: int | None = None
    level_sampling: str | None = None
    beta_start: float | None = None
    beta_end: float | None = None
    zero_terminal_snr: bool | None = None
    prior: str | None = None
    transition: str | None = None
    auxiliary: float | None = None
    conditional: bool | None = None
    label_dropout: float | None = None
    network: str | None = None
    channels: int | None = None
    multipliers: tuple[int, ...] | None = None
    blocks: int | None = None
    attention: tuple[int, ...] | None = None
    fourier: tuple[int, ...] | None = None
    patch: int | None = None
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    hidden: tuple[int, ...] | None = None
    latent: int | None = None
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


def check_same(request: Request, config: RunConfig, data: Data) -> None:
    """Refuse options that the run, once begun, cannot follow any more."""
    check(
        request.minutes is None,
        "minutes",
        request.minutes,
        f"nothing with --resume, the run goes on to its {config.steps} updates",
    )
    have = recorded(config)
    for field in fields(request):
        value = getattr(request, field.name)
        if value in (None, ()) or field.name in ("minutes", "preset"):
            continue
        if field.name == "data":
            value = canonical_source(value)
        if field.name not in have:
            raise InputError(f"{field.name} = {value!r}: the run has none; allowed with --resume "
                             "is nothing")  # fmt: skip
        if value != have[field.name].value:
            raise InputError(
                f"{field.name} = {value!r}: the run has {have[field.name].value!r}; allowed with "
                "--resume is that or nothing"
            )
    if data.digest() != config.data_digest:
        raise InputError(f"data = {config.data}: its images are not those that the run began with")
