"""All measurements, as plain numbers that a file can hold."""

from collections.abc import Callable, Sequence
from typing import TypedDict, get_args

from benchmarks.sampler_orders import bound, corrections
from benchmarks.sampler_orders.paths import STRONG, scattered_flow, strong_errors
from benchmarks.sampler_orders.subjects import (
    SUBJECTS,
    choices,
    ends,
    order_of,
    slope,
    table_for,
)
from ddpm.samplers.equations import Equation

STEPS = (8, 16, 32, 64, 128, 256)
FITTED = 3
"""Last numbers of steps between which an order is fitted."""
STRONG_STEPS = (8, 16, 32, 64, 128)

Say = Callable[[str], None]


class Series(TypedDict):
    """Errors of one sampler.

    Attributes:
        name: The sampler.
        noisy: Whether it draws noise.
        order: That the theory states.
        slope: That the errors have over the last `FITTED` steps.
        errors: For each number of steps.
    """

    name: str
    noisy: bool
    order: int
    slope: float
    errors: list[float]


class Closing(TypedDict):
    """The bound's excess over the exact entropy, in nats, for one variance of the steps."""

    variance: str
    rate: int
    constant: float
    measured: list[float]
    predicted: list[float]


class Results(TypedDict):
    """Everything that is reported; keys of `laws` are numbers of dimensions."""

    steps: list[int]
    laws: dict[str, list[Series]]
    ends: dict[str, tuple[float, float]]
    flow: list[Series]
    strong_steps: list[int]
    strong: list[Series]
    correction_steps: list[int]
    corrections: list[Series]
    corrections_apart: float
    entropy: float
    bounds: list[Closing]


def series(
    name: str, noisy: bool, order: int, steps: Sequence[int], errors: Sequence[float]
) -> Series:
    """One row, with its slope over the last steps."""
    found = slope(steps[-FITTED:], errors[-FITTED:])
    return Series(name=name, noisy=noisy, order=order, slope=found, errors=list(errors))


def laws(say: Say) -> dict[str, list[Series]]:
    """Distances of laws, for every sampler and dimension."""
    found: dict[str, list[Series]] = {}
    for dimensions, subject in SUBJECTS.items():
        say(f"laws in {dimensions} dimensions")
        found[str(dimensions)] = [
            series(
                name, table_for(sampler, 8).noisy, order_of(sampler), STEPS,
                [subject.error(table_for(sampler, steps)) for steps in STEPS],
            )
            for name, sampler in choices().items()
        ]  # fmt: skip
    return found


def paths(say: Say) -> tuple[list[Series], list[Series]]:
    """Errors against the flow itself, and along Brownian paths."""
    say("paths of the flow")
    flow, known, plain = scattered_flow(), choices(), []
    for name, sampler in known.items():
        tables = [table_for(sampler, steps) for steps in STEPS]
        if not tables[0].noisy:
            errors = [flow.error(table) for table in tables]
            plain.append(series(name, False, order_of(sampler), STEPS, errors))
    say("Brownian paths")
    strong = []
    for name in STRONG:
        means = [point.mean for point in strong_errors(name, known[name], STRONG_STEPS)]
        strong.append(series(name, True, 1, STRONG_STEPS, means))
    return plain, strong


def closing(choice: bound.Choice) -> Closing:
    """How the bound closes with one variance."""
    nodes, schedules = bound.Nodes.of_line(), [bound.schedule_of(n) for n in STEPS]
    return Closing(
        variance=choice, rate=bound.RATES[choice], constant=bound.leading_constant(choice),
        measured=[bound.excess(schedule, choice, nodes) for schedule in schedules],
        predicted=[bound.excess_of_exact_reverse(schedule, choice) for schedule in schedules],
    )  # fmt: skip


def everything(say: Say) -> Results:
    """Measure; about two minutes on one core.

    Args:
        say: Receives a line about what comes next.
    """
    all_laws, (flow, strong) = laws(say), paths(say)
    say("corrections")
    steps, resting, apart = corrections.STEPS, [], 0.0
    for sde in get_args(Equation):
        found = [corrections.measure(sde, count) for count in steps]
        errors, apart = [rest.to_rest for rest in found], found[-1].apart
        resting.append(series(f"predictor-corrector {sde}", True, 1, steps, errors))
    say("bound")
    return Results(
        steps=list(STEPS), laws=all_laws,
        ends={str(dimensions): ends(subject) for dimensions, subject in SUBJECTS.items()},
        flow=flow, strong_steps=list(STRONG_STEPS), strong=strong, correction_steps=list(steps),
        corrections=resting, corrections_apart=apart,
        entropy=bound.exact_entropy(bound.schedule_of(8)),
        bounds=[closing(choice) for choice in bound.CHOICES],
    )  # fmt: skip
