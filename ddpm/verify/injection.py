"""Put a printed form in the place of the function that corrects it, everywhere it is used."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, wraps
from typing import Any
from unittest.mock import patch

from ddpm.verify.registry import Target, plain


@contextmanager
def injected(target: Target, printed: Callable[..., Any]) -> Iterator[None]:
    """Replace a function or property of the reference by a printed form with its arguments.

    Inside the printed form the original stands, since a misprint may be told by what it changes.
    """
    original, inside = plain(target), False

    @wraps(original)
    def replacement(*arguments: Any, **named: Any) -> Any:
        nonlocal inside
        if inside:
            return original(*arguments, **named)
        inside = True
        try:
            return printed(*arguments, **named)
        finally:
            inside = False

    with ExitStack() as stack:
        for holder, name in _places(target):
            new = property(replacement) if _is_property(target) else replacement
            stack.enter_context(patch.object(holder, name, new))
        yield


def _places(target: Target) -> list[tuple[Any, str]]:
    """Every attribute of a module or class of ours that is the target."""
    owner, _, name = plain(target).__qualname__.rpartition(".")
    if owner:
        return [(getattr(sys.modules[plain(target).__module__], owner), name)]
    ours = ("ddpm.reference.", "ddpm.verify.proofs.")
    modules = [module for key, module in sys.modules.items() if key.startswith(ours)]
    return [(m, key) for m in modules for key, value in vars(m).items() if value is target]


def _is_property(target: Target) -> bool:
    return isinstance(target, property | cached_property)
