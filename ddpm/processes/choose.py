"""The process of a run, and which settings cannot work together."""

from typing import TYPE_CHECKING, cast

from ddpm.diffusion import GaussianDiffusion
from ddpm.discrete.process import DiscreteDiffusion
from ddpm.errors import InputError, check
from ddpm.models.network import check_images
from ddpm.models.untied import UntiedConfig
from ddpm.models.vae import VaeConfig
from ddpm.processes.base import Process
from ddpm.processes.discrete import DiscreteProcess
from ddpm.processes.gaussian import GaussianProcess
from ddpm.processes.prior import PriorProcess
from ddpm.processes.scheduled import ScheduledProcess
from ddpm.processes.vae import VaeProcess
from ddpm.samplers.variances import learned_form

if TYPE_CHECKING:
    from ddpm.config import RunConfig
    from ddpm.learned_schedule import NetworkObjective

ELSEWHERE = {
    "prediction": "eps",
    "variance": "posterior",
    "prior": "standard",
    "objective.kind": None,
    "objective.weighting": "simple",
    "schedule.zero_terminal_snr": False,
}
"""Settings of Gaussian diffusion, and what they have to be in other families."""


def process_of(config: "RunConfig") -> Process:
    """The process of a run.

    Raises:
        ValueError: its settings do not fit each other.
    """
    if isinstance(config.model, VaeConfig):
        return VaeProcess(config.model.latent)
    if config.process == "discrete":
        return DiscreteProcess(discrete_of(config), config.classes)
    diffusion = diffusion_of(config)
    if config.schedule.kind == "learned":
        objective = cast("NetworkObjective", config.objective.kind or "simple")
        return ScheduledProcess(diffusion, config.grey_levels, config.classes, objective)
    if config.prior == "data":
        return PriorProcess(diffusion, config.grey_levels, config.classes)
    return GaussianProcess(diffusion, config.grey_levels, config.classes)


def diffusion_of(config: "RunConfig") -> GaussianDiffusion:
    """Gaussian diffusion with the settings of a run.

    Raises:
        ValueError: they do not fit each other.
    """
    objective = config.objective
    return GaussianDiffusion(
        config.schedule.build(),
        config.prediction,
        config.variance,
        weighting=objective.weighting,
        objective=objective.kind,
        bound_rate=objective.bound_rate,
        grey_levels=config.grey_levels,
    )


def discrete_of(config: "RunConfig") -> DiscreteDiffusion:
    """Discrete diffusion with the settings of a run."""
    discrete = config.discrete
    return DiscreteDiffusion(
        config.schedule.levels, config.grey_levels, discrete.transition, discrete.auxiliary
    )


def network_shape(config: "RunConfig") -> tuple[tuple[int, int, int], int | None]:
    """Shape of what the network of a run sees, and the channels that it returns if not as many."""
    if config.process != "discrete":
        return config.image_shape, None
    (channels, *sides), diffusion = config.image_shape, discrete_of(config)
    seen = (diffusion.input_channels(channels), *sides)
    return cast("tuple[int, int, int]", seen), diffusion.output_channels(channels)


def check_combination(config: "RunConfig") -> None:
    """Refuse settings that are each allowed, but not together.

    Raises:
        InputError: naming one of them, and what is allowed beside the others.
    """
    model, gaussian = config.model, config.process == "gaussian"
    autoencoder = isinstance(model, VaeConfig)
    check(
        autoencoder == (config.process == "vae"),
        "model.kind", model.kind,
        "vae with process = 'vae', and with no other",
    )  # fmt: skip
    check_images(model, network_shape(config)[0])
    if isinstance(model, UntiedConfig):
        levels = config.schedule.levels
        check(model.levels == levels, "model.levels", model.levels, f"{levels}, as of the schedule")
    learned = gaussian and learned_form(config.variance) != "none"
    has = getattr(model, "learned_variance", False)
    beside = f"{learned} with variance = {config.variance!r} and process = {config.process!r}"
    check(has == learned, "model.learned_variance", has, beside)
    if gaussian:
        _check_gaussian(config)
    else:
        _check_elsewhere(config)
    try:
        process_of(config)
    except ValueError as error:
        raise InputError(str(error)) from None


def _check_gaussian(config: "RunConfig") -> None:
    """What the constructors of Gaussian processes do not see."""
    schedule, objective = config.schedule, config.objective
    if schedule.kind != "learned":
        return
    zero = schedule.zero_terminal_snr
    check(not zero, "schedule.zero_terminal_snr", zero, "False with a learned schedule, whose ends "
          "are finite")  # fmt: skip
    check(config.prior == "standard", "prior", config.prior, "'standard' with a learned schedule")
    weighting = objective.weighting
    check(weighting == "simple", "objective.weighting", weighting, "'simple' with a learned "
          "schedule, which would change what a level's weight means")  # fmt: skip
    compiled = config.compute.compile
    check(not compiled, "compute.compile", compiled, "False with a learned schedule")


def _check_elsewhere(config: "RunConfig") -> None:
    """Settings of Gaussian diffusion that mean nothing in another family."""
    for name, only in ELSEWHERE.items():
        part, _, field = name.rpartition(".")
        value = getattr(getattr(config, part) if part else config, field)
        check(value == only, name, value, f"{only!r} with process = {config.process!r}")
    learned = config.schedule.kind == "learned"
    check(not learned, "schedule.kind", "learned", f"another with process = {config.process!r}")
    if config.process == "vae":
        sampling = config.level_sampling
        check(sampling == "uniform", "level_sampling", sampling, "'uniform' with process = 'vae', "
              "which has one level")  # fmt: skip
