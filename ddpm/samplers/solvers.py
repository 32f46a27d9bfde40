"""The two libraries of solvers, as the adaptive samplers and the flow's likelihood call them.

torchdiffeq and torchsde are the extra `ode`; they are imported where an equation is solved.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ddpm.errors import check
from ddpm.samplers.brownian import BrownianPath
from ddpm.samplers.continuous import Flow

Norm = Callable[[Tensor], Tensor]
"""Size of the errors of a step over their tolerances, [] of [B, ...]."""


ODE_METHODS = ("dopri5", "dopri8", "bosh3", "adaptive_heun", "fehlberg2")
"""Methods of torchdiffeq that choose their steps."""
SDE_METHODS = ("srk", "euler")
"""Methods of torchsde for additive noise: strong orders 1.5 and 1."""


def check_tolerances(
    rtol: float, atol: float, method: str, methods: tuple[str, ...] = ODE_METHODS
) -> None:
    """Refuse tolerances that no step could meet, and methods that choose no steps.

    Raises:
        InputError: a tolerance is not positive and finite, or the method is not one of methods.
    """
    for name, value in (("rtol", rtol), ("atol", atol)):
        check(0 < value < math.inf, name, value, "a positive finite number")
    check(method in methods, "method", method, ", ".join(methods))


def largest_rms(error: Tensor) -> Tensor:
    """The root mean square of the sample [...] of [B, ...] where it is largest."""
    return error.flatten(1).square().mean(dim=1).amax().sqrt()


def solve_ordinary(
    velocity: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    times: Tensor,
    *,
    rtol: float,
    atol: float,
    method: str,
    norm: Norm = largest_rms,
) -> Tensor:
    """Solve dx / dtime = velocity(time, x).

    Args:
        velocity: A function of (time [], x).
        x: Where it begins, [B, ...].
        times: float64 [N], strictly ascending or descending.
        rtol: Allowed error of a step, relative to x.
        atol: The same, absolute.
        method: One of `ODE_METHODS`.
        norm: By which errors are measured.

    Returns:
        [N, B, ...], x at all times.

    Raises:
        ArithmeticError: x or the velocity is not finite, or the steps became too short.
    """
    from torchdiffeq import odeint

    times = times.to(x.device)
    if len(times) == 1 or not x.numel():
        return x.expand(len(times), *x.shape)
    # Without the second option the last step would end beyond the last level.
    options = {"norm": norm, "step_t": times[-1:]}
    with _told(method):
        found: Tensor = odeint(
            velocity, x, times, rtol=rtol, atol=atol, method=method, options=options
        )
    return found


def solve_stochastic(
    flow: Flow,
    x: Tensor,
    times: Tensor,
    brownian: BrownianPath,
    *,
    rtol: float,
    atol: float,
    method: str,
) -> Tensor:
    """One stretch of the reverse stochastic equation.

    Args:
        flow: The equation.
        x: Where it begins, [B, ...].
        times: float64 [2], ascending.
        brownian: The Brownian motion.
        rtol: Allowed error of a step, relative to x.
        atol: The same, absolute.
        method: One of `SDE_METHODS`.

    Returns:
        Like x.

    Raises:
        ArithmeticError: x or the drift is not finite.
    """
    from torchsde import sdeint

    # A row for each element: the noise of each is additive, and has one dimension.
    with _told(method):
        found: Tensor = sdeint(
            _Equation(flow, x.shape), x.reshape(-1, 1), times.to(x.device),
            bm=_increments(brownian, x), method=method, adaptive=True, rtol=rtol, atol=atol,
            dt=float(times[1] - times[0]),
        )[-1]  # fmt: skip
    return found.reshape(x.shape)


@contextmanager
def _told(method: str) -> Iterator[None]:
    """Say in one line what the libraries assert: that numbers are finite and steps are not zero."""
    try:
        yield
    except AssertionError as error:
        reason = str(error).split(":")[0]
        raise ArithmeticError(
            f"{method} found no step that meets the tolerance: {reason}"
        ) from None


class _Equation:
    """The reverse stochastic equation as torchsde reads it, state [B D, 1]."""

    noise_type, sde_type = "additive", "ito"

    def __init__(self, flow: Flow, shape: torch.Size) -> None:
        self.flow, self.shape = flow, shape
        self._known: OrderedDict[tuple[int, float], tuple[Tensor, Tensor]] = OrderedDict()

    def f(self, time: Tensor, y: Tensor) -> Tensor:
        """Drift; a stage that a step shares with the one before is not computed again."""
        place = (id(y), float(time))
        if place not in self._known:
            drift = self.flow.reverse_drift(time, y.reshape(self.shape)).reshape(y.shape)
            # The state is kept so that no other can take its identity.
            self._known[place] = (y, drift)
            if len(self._known) > 4:
                self._known.popitem(last=False)
        self._known.move_to_end(place)
        return self._known[place][1]

    def g(self, time: Tensor, y: Tensor) -> Tensor:
        """Factor of the noise, [B D, 1, 1]."""
        return torch.full_like(y, self.flow.diffusion(time))[:, :, None]


def _increments(path: BrownianPath, x: Tensor) -> object:
    """A Brownian motion as torchsde reads it, [B D, 1], in the dtype of x."""
    from torchsde import BaseBrownian

    class Increments(BaseBrownian):  # type: ignore[misc]
        """Increments of the path, and their integrals where they are asked for."""

        dtype, device, shape = x.dtype, x.device, (x.numel(), 1)
        levy_area_approximation = "space-time"

        def __call__(
            self, ta: Tensor, tb: Tensor, return_U: bool = False, **_: bool
        ) -> Tensor | tuple[Tensor, Tensor]:
            found = path.increment(float(ta), float(tb))
            w, u = (part.to(x.dtype).reshape(-1, 1) for part in found)
            return (w, u) if return_U else w

        def __repr__(self) -> str:
            return f"Increments({self.shape})"

    return Increments()
