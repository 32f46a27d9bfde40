# Compiled functions have no Python types: numba gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The step of a sampler as one loop over the elements of a sample, with the bits of torch's."""

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import float32, float64, int64, types
from torch import Tensor

from ddpm.kernels.affine_step import COLUMNS, Step
from ddpm.kernels.cpu.compiling import compile_loop, floats_at, integers_at

NOTHING, DRAWS = 1, 2
"""What `noise_of` finds in the rows of a table that are good."""

_WIDTH = len(COLUMNS)
# Elements of which the estimate stays in the first cache until the second half of the step.
_BLOCK = 2048


def noise_of(given: Step) -> int:
    """Look at the rows of the table that a step takes.

    Returns:
        NOTHING or DRAWS, whether any of them adds noise; 0 where a row is outside the table, or
        weighs a history that is not there.
    """
    rows, stride = _place(given.row)
    table, history = given.table, given.history is not None
    found: int = _survey()(
        table.data_ptr(), table.shape[0], rows, stride, given.x.shape[0], history
    )
    return found


def step(given: Step, z: Tensor | None, out: Tensor, estimate: Tensor | None = None) -> None:
    """Take a step of float32 tensors whose rows `noise_of` has found good.

    Args:
        given: the arguments, without threshold or learned deviation.
        z: standard normal noise like x, or None.
        out: like x, receives x_s.
        estimate: like x, receives the estimate of x_0, or None.
    """
    x, scale = given.x, given.guidance_scale
    batch = x.shape[0]
    loop = _loop(scale is not None, given.history is not None, z is not None, estimate is not None)
    loop(
        x.data_ptr(),
        given.pred.data_ptr(),
        _address(given.uncond),
        _address(scale),
        1 if scale is not None and scale.ndim else 0,
        _address(given.history),
        _address(z),
        given.table.data_ptr(),
        *_place(given.row),
        batch,
        x.numel() // max(1, batch),
        given.clip if given.clip > 0.0 else float("inf"),
        out.data_ptr(),
        _address(estimate),
    )


def _place(row: Tensor) -> tuple[int, int]:
    """Give the address of the rows and how far apart those of two samples are."""
    return row.data_ptr(), 1 if row.ndim else 0


def _address(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


@cache
def _survey() -> Callable[..., Any]:
    def survey(table, count, row, stride, batch, history):
        rows, columns = integers_at(row), floats_at(table)
        found = NOTHING
        for sample in range(batch):
            chosen = rows[sample * stride]
            if not 0 <= chosen < count:
                return 0
            if not history and columns[chosen * _WIDTH + 4] != 0.0:
                return 0
            if columns[chosen * _WIDTH + 5] != 0.0:
                found = DRAWS
        return found

    signature = int64(int64, int64, int64, int64, int64, types.boolean)
    return compile_loop("survey", survey, signature, (_WIDTH, NOTHING, DRAWS))


@cache
def _loop(guided: bool, history: bool, noisy: bool, kept: bool) -> Callable[..., Any]:
    """Compile the loop for what is given; what is not is None, and compiled away."""
    some: Any = {True: int64, False: types.none}
    signature = types.void(
        int64, int64, some[guided], some[guided], int64, some[history], some[noisy], int64,
        int64, int64, int64, int64, float64, int64, some[kept],
    )  # fmt: skip
    return compile_loop("step", _define(), signature, (_WIDTH, _BLOCK))


def _define():
    def loop(
        x, pred, uncond, scale, scale_stride, history, z, table, row, stride, batch, size, bound,
        out, estimate,
    ):  # fmt: skip
        rows, columns = integers_at(row), floats_at(table)
        high, low = float32(bound), float32(-bound)
        for sample in range(batch):
            first = rows[sample * stride] * _WIDTH
            k_x, k_pred, a, b = (
                columns[first], columns[first + 1], columns[first + 2], columns[first + 3]
            )  # fmt: skip
            c, sd = columns[first + 4], columns[first + 5]
            weight = float32(0.0) if scale is None else floats_at(scale)[sample * scale_stride]
            for begin in range(0, size, _BLOCK):
                start, count = 4 * (sample * size + begin), min(_BLOCK, size - begin)
                xs, preds = floats_at(x + start), floats_at(pred + start)
                outs = floats_at(out + start)
                clean = outs if estimate is None else floats_at(estimate + start)
                for i in range(count):
                    g = preds[i]
                    if uncond is not None:
                        other = floats_at(uncond + start)[i]
                        g = (g - other) * weight + other
                    value = g * k_pred + xs[i] * k_x
                    # Not min and max: a comparison with NaN is false, and NaN passes.
                    value = high if value > high else value
                    clean[i] = low if value < low else value
                for i in range(count):
                    value = clean[i] * a + xs[i] * b
                    if history is not None:
                        value = value + floats_at(history + start)[i] * c
                    if z is not None:
                        value = value + floats_at(z + start)[i] * sd
                    outs[i] = value

    return loop
