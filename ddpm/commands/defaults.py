"""The configuration of a new run: what was asked for, and defaults that suit the data."""

import math
from dataclasses import dataclass, fields
from typing import Any, cast

from ddpm.commands.request import Data, Request
from ddpm.commands.runtime import choose_threads
from ddpm.config import (
    ComputeConfig,
    DiscreteConfig,
    ObjectiveConfig,
    OptimiserConfig,
    RunConfig,
    ScheduleConfig,
    log_snr_end,
    log_snr_start,
)
from ddpm.data.images import ImageData
from ddpm.discrete.process import DiscreteDiffusion, Transition
from ddpm.errors import InputError, check
from ddpm.models.network import AnyConfig, values_of_a_layer
from ddpm.models.untied import UntiedConfig
from ddpm.models.vae import VaeConfig
from ddpm.predictions import canonical
from ddpm.presets import completed
from ddpm.prior import Prior
from ddpm.processes.prior import FITTED_IMAGES
from ddpm.runs.recorded import CONFIGS, SIZES, usual_weighting
from ddpm.samplers.variances import Variance, learned_form

SCHEDULES = ("log_snr_linear", "linear", "cosine", "learned")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Sizes of a U-Net and of an update that suit images of some size."""

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
OTHER_RATE = 1e-3
"""Learning rate of the networks that are no U-Net."""
DISCRETE_LEVELS = 100
"""Measured on the digits: five times as many gain a hundredth of a bit and cost five times more."""
# Measured on the digits: with less decay the autoencoder learns the training images by heart.
VAE_RATE, VAE_DECAY = 2e-3, 0.2


def make_config(request: Request, data: Data, source: str) -> RunConfig:
    """The complete configuration of a new run: what was asked for, and defaults fit for the data.

    Raises:
        InputError: a value is out of range, or two do not go together.
    """
    minutes, steps = request.minutes, request.steps
    check(minutes is None or steps is None, "steps and minutes", (steps, minutes), "one of the two")
    check(minutes is None or 0 < minutes < 1e6, "minutes", minutes, "a positive number")
    request = completed(request)
    usual = SMALL if min(data.shape[1:]) < SMALL_SIDE else LARGE
    try:
        return _made(request, data, source, usual)
    except ValueError as error:
        raise InputError(str(error)) from None


def _made(request: Request, data: Data, source: str, usual: Defaults) -> RunConfig:
    objective, model = _objective(request), _model(request, data, usual)
    batch_size = usual.batch_size if request.batch_size is None else request.batch_size
    return RunConfig(
        data=source,
        data_digest=data.digest(),
        image_shape=data.shape,
        grey_levels=data.levels,
        steps=1 if request.steps is None else request.steps,
        seed=request.seed or 0,
        batch_size=batch_size,
        threads=_threads(request, model, data, batch_size),
        prediction=canonical(_prediction(request)),
        objective=objective,
        schedule=_schedule(request, data),
        discrete=DiscreteConfig(**_given(request, DiscreteConfig)),
        model=model,
        optimiser=_optimiser(request, usual),
        compute=ComputeConfig(**_given(request, ComputeConfig)),
        skip_broken=bool(request.skip_broken),
        **{
            name: value
            for name in ("process", "variance", "level_sampling", "prior", "label_dropout")
            if (value := getattr(request, name)) is not None
        },
    )


def _given(request: Request, kind: type) -> dict[str, Any]:
    """What the user asked for among the fields of a part of the configuration."""
    names = {field.name for field in fields(kind)} & {field.name for field in fields(request)}
    return {n: value for n in names if (value := getattr(request, n)) is not None}


def _prediction(request: Request) -> str:
    """Of the noise, but where the last level keeps nothing else of v."""
    return request.prediction or ("v" if request.zero_terminal_snr else "eps")


def _objective(request: Request) -> ObjectiveConfig:
    options = _given(request, ObjectiveConfig)
    if request.objective is not None:
        options["kind"] = request.objective
    elif (request.process or "gaussian") == "gaussian":
        options["kind"] = "hybrid" if _learns_variance(request) else "simple"
    usual = usual_weighting(canonical(_prediction(request)), request.objective)
    return ObjectiveConfig(**{"weighting": usual, **options})


def _model(request: Request, data: Data, usual: Defaults) -> AnyConfig:
    """The network, of a kind and with sizes that were asked for."""
    process = request.process or "gaussian"
    kind = request.network or ("vae" if process == "vae" else "unet")
    check(kind in SIZES, "network", kind, ", ".join(SIZES))
    _check_sizes(request, kind)
    options = {n: v for n in SIZES[kind] if (v := getattr(request, n)) is not None}
    if kind == "vae":
        hidden = options.get("hidden", (VaeConfig.hidden,))
        check(len(hidden) == 1, "hidden", hidden, "one size for an autoencoder")
        check(not request.conditional, "conditional", True, "nothing for an autoencoder")
        return VaeConfig(**{**options, "hidden": hidden[0]})
    if kind == "unet":
        sizes = {n: getattr(usual, n) for n in ("channels", "multipliers", "blocks", "attention")}
        channels = _seen_channels(request, data)
        if request.multipliers is not None:
            # Attention where the image is smallest, as with the multipliers that were there before.
            sizes["attention"] = (len(request.multipliers) - 1,)
        options = {"image_channels": channels, **sizes, "dropout": 0.1, **options}
    if kind == "untied":
        options["levels"] = _levels(request)
    learned = process == "gaussian" and _learns_variance(request)
    return CONFIGS[kind](**options, classes=_classes(request, data), learned_variance=learned)


def _learns_variance(request: Request) -> bool:
    return learned_form(cast(Variance, request.variance)) != "none"


def _check_sizes(request: Request, kind: str) -> None:
    """Refuse sizes of another network."""
    every = {name for names in SIZES.values() for name in names}
    for name in sorted(every - set(SIZES[kind])):
        value = getattr(request, name)
        kinds = [other for other, names in SIZES.items() if name in names]
        check(value is None, name, value, f"nothing for network = {kind!r}, but for "
              f"{' and '.join(kinds)}")  # fmt: skip


def _seen_channels(request: Request, data: Data) -> int:
    """Channels that the network sees: the image's, and for discrete data those of its masks."""
    if request.process != "discrete":
        return data.shape[0]
    transition = cast(Transition, request.transition or DiscreteConfig.transition)
    return DiscreteDiffusion(1, data.levels, transition).input_channels(data.shape[0])


def _classes(request: Request, data: Data) -> int:
    if not request.conditional:
        check(request.label_dropout is None, "label_dropout", request.label_dropout,
              "nothing without --conditional")  # fmt: skip
        return 0
    if data.classes is None:
        raise InputError("conditional = True: allowed are data with labels")
    return data.classes


def _levels(request: Request) -> int:
    if request.levels is not None:
        return request.levels
    if request.network == "untied":
        return UntiedConfig.levels
    return DISCRETE_LEVELS if request.process == "discrete" else ScheduleConfig.levels


def _optimiser(request: Request, usual: Defaults) -> OptimiserConfig:
    rate = usual.learning_rate if request.network in (None, "unet") else OTHER_RATE
    options: dict[str, Any] = {"learning_rate": rate}
    if request.process == "vae":
        options = {"learning_rate": VAE_RATE, "weight_decay": VAE_DECAY}
    for name in ("learning_rate", "warmup", "weight_decay", "decay"):
        if (value := getattr(request, name)) is not None:
            options[name] = value
    if request.ema:
        options |= {"ema_decay": request.ema[0], "ema_others": request.ema[1:]}
    return OptimiserConfig(**options)


def _schedule(request: Request, data: Data) -> ScheduleConfig:
    kind = request.schedule or "log_snr_linear"
    check(kind in SCHEDULES, "schedule", kind, ", ".join(SCHEDULES))
    # Whitened by a prior, grey levels lie as much further apart as typical pixels vary less.
    whitened = 2 * math.log(_prior(data).typical) if request.prior == "data" else 0.0
    options: dict[str, Any] = {
        "kind": kind,
        "levels": _levels(request),
        "log_snr_max": log_snr_end(data.levels) + whitened,
        "log_snr_min": log_snr_start(math.prod(data.shape)),
    }
    for name in ("beta_start", "beta_end", "zero_terminal_snr"):
        if (value := getattr(request, name)) is not None:
            options[name] = value
    return ScheduleConfig(**options)


def _prior(data: Data) -> Prior:
    images = data if isinstance(data, ImageData) else data.sample(FITTED_IMAGES)
    return Prior.fit(images.train[:FITTED_IMAGES], data.levels)


def _threads(request: Request, model: AnyConfig, data: Data, batch_size: int) -> int:
    if request.threads is not None:
        return request.threads
    return choose_threads(batch_size * values_of_a_layer(model, data.shape))
