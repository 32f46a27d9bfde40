# Compiled functions have no Python types: numba gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""How the loops of this folder become machine code, and how they reach the memory of a tensor.

No fast-math flag is set but where a loop says so: LLVM then neither reorders operations nor fuses a
product with an addition, and each rounds as torch's does.

The first call of a loop in a process waits for numba: about a second, and two where the machine
code is not yet in numba's cache, which is `__pycache__`, or a folder of the user where that is
read-only.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding
from numba import float32, int32, int64, njit, types
from numba.extending import intrinsic

# NUMBA_DISABLE_JIT=1 asks numba not to compile: the loops would run as slow Python.
DISABLED = bool(numba.config.DISABLE_JIT)

# Without a word about fast-math, a function takes the flags of whichever loop calls it first, and
# has them in all others too.
inlined = njit(forceinline=True, fastmath=False)
"""Compile a function into the loops that call it, whose flags it does not share."""


def compile_loop(
    name: str,
    loop: Callable[..., Any],
    signature: Any,
    constants: Sequence[Any] = (),
    reassociate: bool = False,
) -> Callable[..., Any]:
    """Compile a loop for one signature, through numba's cache where there is one.

    Args:
        name: of the loop, in the cache.
        loop: what to compile.
        signature: its types, as numba writes them.
        constants: what was compiled in from elsewhere.
        reassociate: whether a sum may be split among the lanes of a vector.

    Returns:
        The loop, which runs without the lock of the interpreter.
    """
    # As torch divides by zero: an infinity, not an exception.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    if reassociate:
        options["fastmath"] = {"reassoc"}
    loop.__qualname__ = f"{name}_{digest(signature, reassociate, *constants)}"
    compiled: Any = njit(**options)(loop)
    # Numba refuses where neither the installation nor a folder of the user can be written, and
    # fails where the disk is full. The code is then good for this process alone.
    with suppress(RuntimeError, OSError):
        compiled.enable_caching()
        compiled.compile(signature)
    if not compiled.signatures:
        compiled = njit(**options)(loop)
        compiled.compile(signature)
    compiled.disable_compile()
    chosen: Callable[..., Any] = compiled
    return chosen


def digest(*constants: Any) -> str:
    """Tell files of numba's cache apart by what their code was made from.

    Numba looks at the processor and the function's file alone, not at constants and functions from
    elsewhere, and two processes that write different code under one name at one time mix it up.
    """
    features = binding.get_host_cpu_features().flatten()
    made_from = (numba.__version__, binding.get_host_cpu_name(), features, _sources(), constants)
    return hashlib.sha256(repr(made_from).encode()).hexdigest()[:16]


@cache
def _sources() -> str:
    """Give a digest of the files of this folder, whose functions call one another."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@intrinsic
def floats_at(typing_context, address):
    """Point to float32 at an address, as `Tensor.data_ptr` gives it."""
    del typing_context, address
    return types.CPointer(float32)(int64), _point


@intrinsic
def integers_at(typing_context, address):
    """Point to int64 at an address."""
    del typing_context, address
    return types.CPointer(int64)(int64), _point


def _point(context, builder, signature, arguments):
    return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))


@intrinsic
def as_bits(typing_context, x):
    """Reinterpret float32 as int32."""
    del typing_context, x
    return int32(float32), _bitcast


@intrinsic
def as_float(typing_context, x):
    """Reinterpret int32 as float32."""
    del typing_context, x
    return float32(int32), _bitcast


def _bitcast(context, builder, signature, arguments):
    return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))
