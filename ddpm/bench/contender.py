"""What is timed: an operation on given tensors, and everybody who can compute it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Result = dict[str, Tensor]
"""What a call computes, by name; two contenders agree when all that both return does."""

Call = Callable[[], Result]

ROUNDING = (1e-5, 1e-5)
"""Tolerance of two float32 evaluations of one formula."""


@dataclass(frozen=True)
class Contender:
    """One way to compute an operation.

    Attributes:
        name: Who computes it.
        call: What is timed.
        check: The same with the noise given, where `call` draws its own; None means `call`.
        tolerance: How far its result may be from ours, relative to each element and to the root
            mean square of its tensor.
        note: How its formula or its task differs, in a few words.
        same_law: It draws other standard normal numbers, so that only their moments are compared.
    """

    name: str
    call: Call
    check: Call | None = None
    tolerance: tuple[float, float] = ROUNDING
    note: str = ""
    same_law: bool = False

    def result(self) -> Result:
        """What is compared before anything is timed."""
        return (self.check or self.call)()


@dataclass(frozen=True)
class Absent:
    """Somebody who cannot take part, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Workload:
    """One operation on one set of tensors.

    Attributes:
        op: Name of the operation.
        shape: Shape of the batch.
        dtype: Storage of the batch.
        device: Where the tensors are.
        floor: Elements that must move, in units of the batch's elements.
        ours: Our operation; every ratio is against it.
        rivals: The others.
    """

    op: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    floor: float
    ours: Contender
    rivals: tuple[Contender | Absent, ...]

    @property
    def elements(self) -> int:
        """Elements of the batch, the unit N of traffic."""
        return torch.Size(self.shape).numel()

    @property
    def floor_bytes(self) -> float:
        """Bytes that must move."""
        return self.floor * self.elements * self.dtype.itemsize


def judge(contender: Contender, want: Result) -> float:
    """How far a contender's result is from ours, in units of what is allowed: at most 1 is equal.

    Raises:
        ValueError: the results share no name, or a tensor's shape differs.
    """
    got = contender.result()
    if contender.same_law:
        return max(irregularity(x) for x in (*got.values(), *want.values()))
    return disagreement(got, want, contender.tolerance)


def irregularity(z: Tensor) -> float:
    """Mean and variance of numbers in units of five standard deviations of a normal sample's."""
    wide = z.double()
    mean = float(wide.mean().abs()) * math.sqrt(z.numel())
    spread = float((wide.square().mean() - 1).abs()) * math.sqrt(z.numel() / 2)
    return max(mean, spread) / 5


def disagreement(got: Result, want: Result, tolerance: tuple[float, float]) -> float:
    """Largest difference in units of what is allowed: at most 1 means equal; nan never is.

    Args:
        got: A contender's result.
        want: Ours.
        tolerance: Relative to each element of ours, and to the root mean square of its tensor.

    Raises:
        ValueError: the results share no name, or a tensor's shape differs.
    """
    common = want.keys() & got.keys()
    if not common:
        raise ValueError(f"results are {sorted(got)}; ours are {sorted(want)}")
    return max(_difference(name, got[name], want[name], tolerance) for name in common)


def _difference(name: str, got: Tensor, want: Tensor, tolerance: tuple[float, float]) -> float:
    if got.shape != want.shape:
        raise ValueError(f"{name} has shape {tuple(got.shape)}; ours has {tuple(want.shape)}")
    if not want.numel():
        return 0.0
    ours, other = (x.detach().to("cpu", torch.float64) for x in (want, got))
    scale = float(ours.square().mean().sqrt())
    allowed = tolerance[0] * ours.abs() + tolerance[1] * scale
    share = torch.where(other == ours, 0.0, (other - ours).abs() / allowed)
    return float(share.nan_to_num(nan=torch.inf, posinf=torch.inf).max())
