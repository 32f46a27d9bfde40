"""Every sampler by its name, with what it costs and when to use it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ddpm.errors import InputError, check
from ddpm.predictions import Prediction
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.corrector import predictor_corrector_table
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.flow_tables import euler_table
from ddpm.samplers.levels import check_levels, spaced
from ddpm.samplers.multistep import dpm_solver_first_table, dpm_solver_table, heun_table
from ddpm.samplers.sampler import Sampler
from ddpm.samplers.sde import euler_maruyama_table
from ddpm.samplers.stochastic import dpm_solver_sde_table, stochastic_heun_table
from ddpm.samplers.tables import StepTable
from ddpm.samplers.variances import Variance, check_variance, learned_form
from ddpm.schedule import Schedule

Make = Callable[[Schedule, Prediction, Sequence[int], Sampler, Variance], StepTable]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A sampler.

    Attributes:
        make: Its table, from schedule, prediction, levels, the choices and the model's variance.
        options: Fields of `Sampler` that it knows beside those of every sampler.
        random: Whether it draws noise on the way.
        calls: Network calls a step.
        order: How fast its error falls with the number of steps.
        when: When to use it.
    """

    make: Make
    options: tuple[str, ...] = ()
    random: bool = False
    calls: str = "1"
    order: str
    when: str


CATALOGUE: dict[str, Entry] = {
    "ancestral": Entry(
        make=lambda schedule, prediction, levels, _, variance: ancestral_table(
            schedule, prediction, levels, variance
        ),
        options=("variance",), random=True, order="1 in distribution",
        when="all levels, or hundreds: the chain that was trained, and the bound's own model",
    ),
    "ddim": Entry(
        make=lambda schedule, prediction, levels, sampler, _: ddim_table(
            schedule, prediction, levels, sampler.eta
        ),
        options=("eta",), order="1",
        when="tens of steps; with eta = 0 a picture is a function of its first noise",
    ),
    "dpm-solver-1": Entry(
        make=lambda schedule, prediction, levels, *_: dpm_solver_first_table(
            schedule, prediction, levels
        ),
        order="1",
        when="to compare: it is ddim with eta = 0 under the name of its solver",
    ),
    "dpm-solver-2m": Entry(
        make=lambda schedule, prediction, levels, *_: dpm_solver_table(
            schedule, prediction, levels
        ),
        order="2",
        when="pictures in few calls: more than twenty steps change little",
    ),
    "dpm-solver-sde": Entry(
        make=lambda schedule, prediction, levels, *_: dpm_solver_sde_table(
            schedule, prediction, levels
        ),
        random=True, order="2 in distribution",
        when="as ancestral, with a third of its steps or fewer",
    ),
    "euler": Entry(
        make=lambda schedule, prediction, levels, sampler, _: euler_table(
            schedule, prediction, levels, _sde(sampler, "ve")
        ),
        options=("sde",), order="1",
        when="as ddim, which it is with sde = 've'; the others are there to compare with",
    ),
    "heun": Entry(
        make=lambda schedule, prediction, levels, *_: heun_table(schedule, prediction, levels),
        calls="2, the last step 1", order="2",
        when="as dpm-solver-2m, where steps are few and the network is smooth",
    ),
    "euler-maruyama": Entry(
        make=lambda schedule, prediction, levels, sampler, _: euler_maruyama_table(
            schedule, prediction, levels, _sde(sampler, "vp")
        ),
        options=("sde",), random=True, order="1 in distribution",
        when="to compare: the textbook's solver of the reverse equation",
    ),
    "stochastic-heun": Entry(
        make=lambda schedule, prediction, levels, *_: stochastic_heun_table(
            schedule, prediction, levels
        ),
        random=True, calls="2, the last step 1", order="2 in distribution",
        when="to compare: dpm-solver-sde does as well with half of the calls",
    ),
    "predictor-corrector": Entry(
        make=lambda schedule, prediction, levels, sampler, _: predictor_corrector_table(
            schedule, prediction, levels, _sde(sampler, "vp")
        ),
        options=("sde",), random=True, calls="2, the last step 1", order="1 in distribution",
        when="to compare: euler-maruyama, pulled back to each level's law, which it leaves wider",
    ),
}  # fmt: skip
"""Names of all samplers that are tables of steps."""
USUAL, USUAL_STEPS = "dpm-solver-2m", 50
"""The sampler where nobody asks for another, and its steps: see docs/sampler-quality.md."""


def table_of(
    sampler: Sampler, schedule: Schedule, prediction: Prediction, variance: Variance
) -> StepTable:
    """The steps of a sampler.

    Args:
        sampler: The choices.
        schedule: The noise schedule of the model.
        prediction: What its network outputs.
        variance: The variance that it was trained with.

    Raises:
        InputError: a choice is not allowed, does not go with another, or is one that the sampler
            does not know.
    """
    check(sampler.name in CATALOGUE, "sampler", sampler.name, ", ".join(CATALOGUE))
    entry, usual = CATALOGUE[sampler.name], Sampler()
    for option in ("eta", "variance", "sde"):
        value = getattr(sampler, option)
        known = option in entry.options or value == getattr(usual, option)
        takers = ", ".join(name for name, each in CATALOGUE.items() if option in each.options)
        check(known, option, value, f"none with sampler = {sampler.name!r}, only with {takers}")
    try:
        chosen = _variance(sampler, variance)
        levels = levels_of(sampler, schedule)
        return entry.make(schedule, prediction, levels, sampler, chosen)
    except ValueError as error:
        raise InputError(str(error)) from None


def levels_of(sampler: Sampler, schedule: Schedule) -> list[int]:
    """The levels that a sampler visits.

    Raises:
        ValueError: steps, spacing or levels are not allowed, or do not go together.
    """
    if sampler.levels is None:
        return spaced(schedule, sampler.spacing, sampler.steps)
    if sampler.steps is not None:
        raise ValueError(f"steps = {sampler.steps}: allowed with levels of your own is None")
    check_levels(sampler.levels, schedule.steps)
    return list(sampler.levels)


def _sde(sampler: Sampler, usual: str) -> str:
    """The equation of a solver, which has a usual one."""
    return usual if sampler.sde is None else sampler.sde


def _variance(sampler: Sampler, trained: Variance) -> Variance:
    """The variance of ancestral steps, which may be fixed where a learned one was trained."""
    if sampler.variance is None:
        return trained
    check_variance(sampler.variance)
    wanted: Variance = sampler.variance  # type: ignore[assignment]
    form = learned_form(wanted)
    if wanted == "optimal" or form not in ("none", learned_form(trained)):
        raise ValueError(
            f"variance = {wanted!r}: allowed for a model trained with {trained!r} is that, "
            "posterior or beta"
        )
    return wanted
