"""How a proof and the refutation of a misprint are declared, and where they are found.

    @proof("T-eq2", of=posterior_coefficients, oracle="conditioning the joint covariance",
           given=(moderate_betas(),))
    def conditioning(evidence: Evidence, betas: Array) -> None: ...

    @misprint("K-60", of=posterior_coefficients, truth=..., counterexample=..., search=...)
    def lost_index(chain: Chain, s: Levels, t: Levels) -> Coefficients: ...

A misprint is the printed form with the arguments of the function that corrects it, so that it can
take that function's place and show that the proofs notice.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from hypothesis.strategies import SearchStrategy
from numpy.typing import ArrayLike

from ddpm.verify import proofs
from ddpm.verify.identifiers import expand

Target = Any
"""A function of the reference, or a property of one of its classes."""

Body = TypeVar("Body", bound=Callable[..., Any])


@dataclass(frozen=True)
class Counterexample:
    """Arguments at which a printed form fails, with the numbers it and the right form give."""

    arguments: tuple[Any, ...]
    printed: ArrayLike
    right: ArrayLike
    within: float = 1e-4
    """How far a value may lie from the numbers above, which are given to a few digits."""


@dataclass(frozen=True)
class Misprint:
    """A printed form, the truth it is held against and where it fails."""

    printed: Callable[..., Any]
    truth: Callable[..., Any]
    counterexample: Counterexample
    search: tuple[SearchStrategy[Any], ...]
    value: Callable[[Any], ArrayLike]
    rtol: float
    atol: float
    share: float


@dataclass(frozen=True)
class Proof:
    """A statement about functions of the reference that can be run.

    Its body is what was declared: the function that asserts, or the printed form of a misprint.
    """

    name: str
    ids: tuple[str, ...]
    of: tuple[Target, ...]
    oracle: str
    body: Callable[..., Any]
    given: tuple[SearchStrategy[Any], ...]
    examples: int
    misprint: Misprint | None = None


PROOFS: dict[str, Proof] = {}
"""Every proof that was declared, by its name `subject.function`."""


def proof(
    *ids: str,
    of: Target | tuple[Target, ...],
    oracle: str,
    given: tuple[SearchStrategy[Any], ...] = (),
    examples: int = 40,
) -> Callable[[Body], Body]:
    """Declare a proof.

    Args:
        ids: entries of the ledger that it proves.
        of: functions of the reference that it proves them of.
        oracle: the independent truth it compares with, in a few words.
        given: strategies of the arguments after the evidence; none for a single case.
        examples: number of examples to try.

    Raises:
        ValueError: the name is taken, or there is no id.
    """

    def declare(body: Body) -> Body:
        functions = of if isinstance(of, tuple) else (of,)
        _register(Proof(_name(body), expand(ids), functions, oracle, body, given, examples))
        return body

    return declare


def misprint(
    *ids: str,
    of: Target,
    truth: Callable[..., Any],
    oracle: str,
    counterexample: Counterexample,
    search: tuple[SearchStrategy[Any], ...],
    value: Callable[[Any], ArrayLike] = lambda result: result,
    rtol: float = 1e-9,
    atol: float = 1e-11,
    share: float = 0.5,
    examples: int = 40,
) -> Callable[[Body], Body]:
    """Declare a printed form that is wrong; it has the arguments of the function `of`.

    Args:
        ids: entries of the ledger that print it.
        of: the function of the reference that holds the corrected form.
        truth: the value found another way, from the same arguments.
        oracle: what `truth` does, in a few words.
        counterexample: the ledger's case.
        search: strategies of the arguments, for the random search.
        value: picks what to compare from a result of the printed form, `of` and `truth`.
        rtol: relative tolerance of the corrected form against the truth.
        atol: absolute tolerance of the corrected form against the truth.
        share: share of the random cases that must refute the printed form.
        examples: number of random cases.

    Raises:
        ValueError: the name is taken, or there is no id.
    """

    def declare(printed: Body) -> Body:
        wrong = Misprint(
            printed, truth, counterexample, search, value, rtol=rtol, atol=atol, share=share
        )
        _register(
            Proof(_name(printed), expand(ids), (of,), oracle, printed, search, examples, wrong)
        )
        return printed

    return declare


def load() -> dict[str, str]:
    """Import every module of proofs, and return why those that cannot be imported cannot."""
    broken = {}
    for module in sorted(pkgutil.iter_modules(proofs.__path__), key=lambda found: found.name):
        try:
            importlib.import_module(f"{proofs.__name__}.{module.name}")
        except ImportError as error:
            broken[module.name] = str(error)
    return broken


def plain(target: Target) -> Callable[..., Any]:
    """The function behind a target: itself, or that of a property."""
    if isinstance(target, cached_property):
        return target.func
    if isinstance(target, property) and target.fget is not None:
        return target.fget
    function: Callable[..., Any] = target
    return getattr(function, "__func__", function)


def target_name(target: Target) -> str:
    """Name of a target inside the reference, `module.function` or `module.Class.attribute`."""
    function = plain(target)
    return f"{function.__module__.removeprefix('ddpm.reference.')}.{function.__qualname__}"


def _name(body: Callable[..., Any]) -> str:
    return f"{body.__module__.rpartition('.')[2]}.{body.__name__}"


def _register(declared: Proof) -> None:
    if not declared.ids:
        raise ValueError(f"ids must not be empty: proof {declared.name}")
    if declared.name in PROOFS:
        raise ValueError(f"the name of a proof must be unique, got {declared.name} twice")
    PROOFS[declared.name] = declared
