"""Samplers that choose their own steps, by name, beside those of the catalogue of tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError, check
from ddpm.extras import require_extra
from ddpm.keys import Key
from ddpm.samplers.adaptive import ode_progressive, sde_progressive
from ddpm.samplers.catalogue import levels_of
from ddpm.samplers.continuous import ContinuousDenoiser, times_of
from ddpm.samplers.loop import Guidance, Model, State
from ddpm.samplers.sampler import Sampler

EXTRA = "ode"
"""What an installation needs for them."""

Draw = Callable[
    [GaussianDiffusion, Model, Tensor, Key, list[int], Mapping[str, Any], Guidance | None],
    Iterator[State],
]


@dataclass(frozen=True, kw_only=True)
class AdaptiveEntry:
    """A sampler whose steps follow from a tolerance.

    Attributes:
        draw: Its states, from process, network, first images, key, levels, conditions and guidance.
        library: The module that solves the equation.
        random: Whether it draws noise on the way.
        calls: Network calls.
        order: How its error falls.
        when: When to use it.
    """

    draw: Draw
    library: str
    random: bool
    calls: str
    order: str
    when: str


ADAPTIVE: dict[str, AdaptiveEntry] = {
    "ode-adaptive": AdaptiveEntry(
        draw=lambda diffusion, model, x, _, levels, conditions, guidance: ode_progressive(
            diffusion, model, x, levels, conditions, guidance=guidance
        ),
        library="torchdiffeq", random=False,
        calls="some tens in all, whatever the steps", order="5, by tolerance",
        when="to see what the exact probability flow draws; leave --steps out",
    ),
    "sde-adaptive": AdaptiveEntry(
        draw=lambda diffusion, model, x, key, levels, conditions, guidance: sde_progressive(
            diffusion, model, x, key, levels, conditions, guidance=guidance
        ),
        library="torchsde", random=True,
        calls="5 or more a step", order="1.5 along a path, by tolerance",
        when="to see what the exact reverse equation draws; its own steps lie between --steps",
    ),
}  # fmt: skip
"""Names of all samplers that choose their steps."""


def check_adaptive(sampler: Sampler, diffusion: GaussianDiffusion, model: Model) -> int:
    """How many states an adaptive sampler yields.

    Args:
        sampler: The choices; its name is one of `ADAPTIVE`.
        diffusion: The process.
        model: The network.

    Raises:
        InputError: a choice is not allowed or not known to it, the extra is not installed, or
            process or network cannot be asked between the levels.
    """
    usual = Sampler()
    for option in ("eta", "variance", "sde"):
        value = getattr(sampler, option)
        none = f"none with sampler = {sampler.name!r}"
        check(value == getattr(usual, option), option, value, none)
    if sampler.ilvr is not None:
        raise InputError(
            f"ilvr with sampler = {sampler.name!r}: allowed are samplers of fixed steps, since it "
            "acts after each of them"
        )
    require_extra(f"sampler = {sampler.name!r}", EXTRA, ADAPTIVE[sampler.name].library)
    try:
        levels = levels_of(sampler, diffusion.schedule)
        times_of(diffusion.schedule, levels)
        ContinuousDenoiser(diffusion, model)
    except ValueError as error:
        raise InputError(str(error)) from None
    return len(levels) - 1


def draw_adaptive(
    sampler: Sampler,
    diffusion: GaussianDiffusion,
    model: Model,
    x: Tensor,
    key: Key,
    conditions: Mapping[str, Any],
    guidance: Guidance | None,
) -> Iterator[State]:
    """Yield the states at the levels of an adaptive sampler.

    Args:
        sampler: The choices, see `check_adaptive`.
        diffusion: The process.
        model: The network.
        x: Images at the first level, [B, ...].
        key: Its seed and sample indices determine all random numbers.
        conditions: Passed to the network.
        guidance: Classifier-free guidance, or None.
    """
    levels: Sequence[int] = levels_of(sampler, diffusion.schedule)
    draw = ADAPTIVE[sampler.name].draw
    return draw(diffusion, model, x, key, list(levels), conditions, guidance)
