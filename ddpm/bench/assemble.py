"""Putting a workload together: the rivals that every operation has, and who is missing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ddpm.bench.contender import Absent, Contender, Workload
from ddpm.bench.formulas import compiled
from ddpm.bench.inputs import Inputs
from ddpm.bench.peer_calls import missing

EAGER, COMPILED, NUMPY, OURS = "torch", "torch.compile", "NumPy reference", "ddpm"

Formula = Callable[..., Any]
Maker = Callable[[], Contender]


def assemble(
    op: str,
    inputs: Inputs,
    floor: float,
    ours: Contender,
    plain: Callable[[Formula], Contender] | None,
    formula: Formula | None,
    peers: Mapping[str, Maker],
    oracle: Contender,
    others: Sequence[Contender] = (),
) -> Workload:
    """A workload of our operation and all its rivals.

    Args:
        op: Name of the operation.
        inputs: The batch.
        floor: Elements that must move, in units of the batch's.
        ours: Our operation.
        plain: Makes a contender from the plain formula; None where there is none.
        formula: The plain formula.
        peers: For each peer, by the name of its package, what makes the contender.
        oracle: The NumPy reference.
        others: Rivals of this operation alone.
    """
    rivals: list[Contender | Absent] = [*others]
    if plain is not None and formula is not None:
        rivals.append(replace(plain(formula), name=EAGER))
        rivals.append(replace(plain(compiled(formula)), name=COMPILED))
    rivals += [_peer(name, make, inputs.dtype) for name, make in peers.items()]
    rivals.append(replace(oracle, name=NUMPY))
    ours = replace(ours, name=OURS)
    return Workload(
        op, inputs.shape, inputs.dtype, inputs.device, floor, ours, tuple(_fit(rivals, inputs))
    )


def _peer(name: str, make: Maker, dtype: torch.dtype) -> Contender | Absent:
    if reason := missing(name):
        return Absent(name, reason)
    if dtype != torch.float32:
        # Their tables take the dtype of the batch, and so their results are others.
        return Absent(name, "compared in float32 only")
    return replace(make(), name=name)


def _fit(rivals: list[Contender | Absent], inputs: Inputs) -> list[Contender | Absent]:
    """Widen the tolerances to a few roundings of the batch's dtype."""
    eps = 4 * torch.finfo(inputs.dtype).eps
    return [
        replace(r, tolerance=(max(r.tolerance[0], eps), max(r.tolerance[1], eps)))
        if isinstance(r, Contender) else r
        for r in rivals
    ]  # fmt: skip
