"""How far two computations of one number may lie apart, by storage type and backend, and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """Bounds |got - want| <= atol + rtol |want|, with the reason for them."""

    rtol: float
    atol: float
    reason: str


# Backends: "reference" is NumPy, "cpu" is torch, "interpreter" is Triton's, "gpu" is compiled.
TOLERANCES: dict[tuple[str, str], Tolerance] = {
    ("float64", "reference"): Tolerance(
        1e-12, 1e-12, "a few dozen roundings of 1e-16, amplified by well conditioned solves"
    ),
    ("float32", "cpu"): Tolerance(
        2e-6, 2e-6, "about ten roundings of 6e-8, and noise that is within 1e-6 of float64's"
    ),
    ("bfloat16", "cpu"): Tolerance(
        2**-8, 2e-6, "one rounding to 8 bits on the store; float32 inside"
    ),
    ("float16", "cpu"): Tolerance(
        2**-11, 2e-6, "one rounding to 11 bits on the store; float32 inside"
    ),
    ("float32", "interpreter"): Tolerance(
        2e-6, 2e-6, "the arithmetic of the cpu backend, in another order"
    ),
    ("bfloat16", "interpreter"): Tolerance(
        2**-7, 2e-6, "the interpreter truncates to 8 bits instead of rounding to nearest"
    ),
    ("float16", "interpreter"): Tolerance(
        2**-11, 2e-6, "one rounding to 11 bits on the store; float32 inside"
    ),
    ("float32", "gpu"): Tolerance(
        1e-5, 1e-5, "fused multiply-add, an approximate square root and other orders of sums"
    ),
    ("bfloat16", "gpu"): Tolerance(
        2**-6, 2**-6, "as float32, then a store that may round to the other neighbour, twice"
    ),
    ("float16", "gpu"): Tolerance(
        2**-9, 2**-9, "as float32, then a store that may round to the other neighbour, twice"
    ),
}


def tolerance(dtype: str, backend: str) -> Tolerance:
    """Look a tolerance up.

    Args:
        dtype: storage type, as torch or NumPy name it.
        backend: "reference", "cpu", "interpreter" or "gpu".

    Raises:
        KeyError: the pair is not in the table.
    """
    return TOLERANCES[dtype, backend]
