"""A configuration as options of `ddpm train`: what is printed to make a run again, and compared."""

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any, NamedTuple

from ddpm.config import (
    ComputeConfig,
    DiscreteConfig,
    ObjectiveConfig,
    OptimiserConfig,
    RunConfig,
    ScheduleConfig,
)
from ddpm.models.mlp import MLPConfig
from ddpm.models.network import AnyConfig
from ddpm.models.transformer import TransformerConfig
from ddpm.models.unet import UNetConfig
from ddpm.models.untied import UntiedConfig
from ddpm.models.vae import VaeConfig

SIZES: dict[str, tuple[str, ...]] = {
    "unet": ("channels", "multipliers", "blocks", "attention", "fourier", "dropout"),
    "mlp": ("width", "depth", "dropout"),
    "transformer": ("patch", "width", "depth", "heads", "dropout"),
    "untied": ("hidden", "dropout"),
    "vae": ("latent", "hidden"),
}
"""Options for the sizes of each network."""
CONFIGS: dict[str, Callable[..., AnyConfig]] = {
    "unet": UNetConfig,
    "mlp": MLPConfig,
    "transformer": TransformerConfig,
    "untied": UntiedConfig,
    "vae": VaeConfig,
}


class Recorded(NamedTuple):
    """Value of an option, and the value that it has where nobody gives it; None if that depends."""

    value: Any
    usual: Any = None


def recorded(config: RunConfig) -> dict[str, Recorded]:
    """Every option of `ddpm train` that shapes a run, by the name of its field in `Request`.

    Options of other families of models, networks and schedules are left out.
    """
    optimiser = config.optimiser
    vae = config.process == "vae"
    decay = None if vae else OptimiserConfig.weight_decay
    averages = (optimiser.ema_decay, *optimiser.ema_others)
    found = {
        "data": Recorded(config.data),
        "steps": Recorded(config.steps),
        "seed": Recorded(config.seed),
        "batch_size": Recorded(config.batch_size),
        "learning_rate": Recorded(optimiser.learning_rate),
        "warmup": Recorded(optimiser.warmup, OptimiserConfig.warmup),
        "weight_decay": Recorded(optimiser.weight_decay, decay),
        "process": Recorded(config.process, RunConfig.process),
        **_process(config),
        "network": Recorded(config.model.kind, "vae" if vae else "unet"),
        **{name: _size(config, name) for name in SIZES[config.model.kind]},
        "threads": Recorded(config.threads),
        "decay": Recorded(optimiser.decay, OptimiserConfig.decay),
        "ema": Recorded(averages, (OptimiserConfig.ema_decay,)),
        "skip_broken": Recorded(config.skip_broken, False),
    }
    if not vae:
        found["conditional"] = Recorded(config.classes > 0, False)
    if config.classes:
        found["label_dropout"] = Recorded(config.label_dropout, RunConfig.label_dropout)
    usual = {field.name: field.default for field in fields(ComputeConfig)}
    return found | {n: Recorded(v, usual[n]) for n, v in asdict(config.compute).items()}


def _process(config: RunConfig) -> dict[str, Recorded]:
    """Options of the family of models."""
    schedule, objective = config.schedule, config.objective
    if config.process == "vae":
        return {}
    levels = {
        "levels": Recorded(schedule.levels),
        "level_sampling": Recorded(config.level_sampling, RunConfig.level_sampling),
    }
    if config.process == "discrete":
        discrete = config.discrete
        return levels | {
            "transition": Recorded(discrete.transition, DiscreteConfig.transition),
            "auxiliary": Recorded(discrete.auxiliary, DiscreteConfig.auxiliary),
        }
    first = "hybrid" if "learned" in config.variance else "simple"
    return {
        "prediction": Recorded(config.prediction),
        "variance": Recorded(config.variance, RunConfig.variance),
        "objective": Recorded(objective.kind or first, first),
        "weighting": Recorded(
            objective.weighting, usual_weighting(config.prediction, objective.kind)
        ),
        "bound_rate": Recorded(objective.bound_rate, ObjectiveConfig.bound_rate),
        "schedule": Recorded(schedule.kind),
        **levels,
        "beta_start": Recorded(schedule.beta_start, ScheduleConfig.beta_start),
        "beta_end": Recorded(schedule.beta_end, ScheduleConfig.beta_end),
        "zero_terminal_snr": Recorded(schedule.zero_terminal_snr, False),
        "prior": Recorded(config.prior, RunConfig.prior),
    }


def usual_weighting(prediction: str, objective: str | None = None) -> str:
    """Weighting of a prediction that nobody weighted.

    The squared error of the score grows beyond any bound towards level 1, where the noise is
    least: an error of the noise is what it is weighted by. The bound has no weight but its own.
    """
    return "eps" if prediction == "score" and objective != "vlb" else "simple"


def _size(config: RunConfig, name: str) -> Recorded:
    value = getattr(config.model, name)
    # A U-Net's sizes and its dropout suit the data; other networks have one default each.
    if isinstance(config.model, UNetConfig):
        return Recorded(value, UNetConfig.fourier if name == "fourier" else None)
    usual = getattr(type(config.model), name)
    single = name == "hidden" and isinstance(config.model, VaeConfig)
    return Recorded((value,), (usual,)) if single else Recorded(value, usual)
