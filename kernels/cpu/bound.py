# Compiled functions have no Python types: numba gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Simple loss and term of the bound of each sample, and the gradient of both, one loop each.

The gradient has the bits of torch's. A sum is split among the lanes of a vector, blocks of it are
added in float64, and it differs from torch's in the last places.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from numba import boolean, float32, int32, int64, types
from torch import Tensor

from ddpm.kernels import compiled
from ddpm.kernels import exponential as host
from ddpm.kernels.cpu.compiling import (
    as_bits,
    as_float,
    compile_loop,
    floats_at,
    inlined,
    integers_at,
)
from ddpm.kernels.cpu.targets import factor, kind_of
from ddpm.kernels.samples import cut
from ddpm.kernels.variational_terms import Terms

# Elements summed in float32: few enough that no sum of lanes loses a place.
_BLOCK = 2048
# Numbers of a level in the table: signal, sigma, root, d0, d1 and half.
_WIDTH = 6
_LOWEST, _HIGHEST = host.LOWEST, host.HIGHEST
_LOG2_E, _ROUNDER, _ONE_BITS = host.LOG2_E, host.ROUNDER, host.ONE_BITS
_LN2_HIGH, _LN2_LOW = host.LN2_HIGH, host.LN2_LOW
_Q0, _Q1, _Q2, _Q3, _Q4 = host.COEFFICIENTS
_EXPONENTIAL = (
    _LOWEST, _HIGHEST, _LOG2_E, _ROUNDER, _ONE_BITS, _LN2_HIGH, _LN2_LOW, host.COEFFICIENTS,
)  # fmt: skip


class _Reads(NamedTuple):
    """What the loops read: float32 of the CPU, contiguous, [B, size] or of any other shape."""

    output: Tensor
    source: Tensor
    x0: Tensor | None
    t: Tensor
    table: Tensor
    score: bool


def means(terms: Terms, simple: Tensor, bound: Tensor) -> bool:
    """Write the mean squared error and the mean term of the bound of each sample.

    Args:
        terms: checked arguments on the CPU, of learned "log" and with elements.
        simple: float32 [B].
        bound: float32 [B], which receives numbers of no meaning at level 1.

    Returns:
        Whether any sample is at level 1.
    """
    found = False
    for rows, reads in _reads(terms):
        loop = _means(reads.x0 is not None)
        outs = cut(simple, rows).data_ptr(), cut(bound, rows).data_ptr()
        found |= loop(*_arguments(reads), *outs)
    return found


def gradients(
    terms: Terms, for_simple: Tensor, for_bound: Tensor, detach_mean: bool, result: Tensor
) -> bool:
    """Write the gradient of the output.

    Args:
        terms: checked arguments on the CPU, of learned "log" and with elements.
        for_simple: float32 [B], contiguous, gradient of each mean squared error.
        for_bound: float32 [B], contiguous, gradient of each mean term of the bound.
        detach_mean: whether the term of the bound treats the prediction as a constant.
        result: like the output, which receives numbers of no meaning at level 1.

    Returns:
        Whether any sample is at level 1.
    """
    found = False
    for rows, reads in _reads(terms):
        part = cut(result, rows)
        wide = part if part.dtype is torch.float32 else torch.empty_like(reads.output)
        loop = _gradients(reads.x0 is not None)
        factors = cut(for_simple, rows).data_ptr(), cut(for_bound, rows).data_ptr()
        found |= loop(*_arguments(reads), *factors, detach_mean, wide.data_ptr())
        if wide is not part:
            part.copy_(wide)
    return found


def _reads(terms: Terms) -> Iterator[tuple[slice | None, _Reads]]:
    """Give what the loops read, all samples at once where it is there in float32."""
    score, clean = terms.prediction == "score", terms.prediction == "x0"
    source, x0 = terms.x0 if clean else terms.noise, terms.x0 if terms.prediction == "v" else None
    if source is not None and compiled.fit(terms.output, source, x0):
        yield None, _Reads(terms.output, source, x0, terms.t, terms.table, score)
        return
    for rows, some in terms.blocks():
        target = (some.x0 if clean else some.eps()).float()
        wide = None if x0 is None else some.x0.float()
        yield rows, _Reads(some.output.float(), target, wide, some.t, some.table, score)


def _arguments(given: _Reads) -> tuple[int | None, ...]:
    """Give the arguments that the loops have in common."""
    output, source, x0, t, table, score = given
    batch = source.shape[0]
    return (
        output.data_ptr(),
        source.data_ptr(),
        None if x0 is None else x0.data_ptr(),
        t.data_ptr(),
        table.data_ptr(),
        batch,
        source.numel() // max(1, batch),
        kind_of(x0, score),
    )


# In functions of their own no sum is reassociated, which would undo the rounding to n and the
# cancellation of what is equal.
@inlined
def _power(x):
    """Give the 2**n, r and r r q(r) of exp(x) = 2**n (1 + r + r r q(r)); see `exponential`."""
    x = float32(_LOWEST) if x < float32(_LOWEST) else x
    shifted = x * float32(_LOG2_E) + float32(_ROUNDER)
    n = shifted - float32(_ROUNDER)
    r = x + n * float32(_LN2_HIGH) + n * float32(_LN2_LOW)
    rest = ((r * float32(_Q4) + float32(_Q3)) * r + float32(_Q2)) * r + float32(_Q1)
    rest = (rest * r + float32(_Q0)) * r * r
    scale = as_float(int32((as_bits(shifted) << int32(23)) + int32(_ONE_BITS)))
    return scale, r, rest


@inlined
def _log_ratio(raw, d0, d1):
    """Give the log of s2 / variance; what is too large for its exp counts as the largest."""
    log = raw * -d1 - d0
    return float32(_HIGHEST) if log > float32(_HIGHEST) else log


@inlined
def _exponential(x):
    scale, r, rest = _power(x)
    return (rest + r + float32(1.0)) * scale


@inlined
def _excess(x):
    """Give exp(x) and exp(x) - 1 - x, of which near 0, where n is 0, r r q(r) is all that is left.

    There scale is 1 and r is x, and their differences are 0 without any rounding.
    """
    scale, r, rest = _power(x)
    return (rest + r + float32(1.0)) * scale, scale * rest + (scale - float32(1.0) + scale * r - x)


@cache
def _means(rotated: bool) -> Callable[..., Any]:
    def loop(output, source, x0, t, table, batch, size, kind, simple, bound):
        ts, columns = integers_at(t), floats_at(table)
        simples, bounds = floats_at(simple), floats_at(bound)
        found = False
        for sample in range(batch):
            level = ts[sample] * _WIDTH
            found |= ts[sample] == 1
            b, root, d0, d1 = (
                columns[level + 1], columns[level + 2], columns[level + 3], columns[level + 4]
            )  # fmt: skip
            a = factor(kind, columns[level], b)
            squares, scaled, rests = 0.0, 0.0, 0.0
            for begin in range(0, size, _BLOCK):
                start, count = 4 * (sample * size + begin), min(_BLOCK, size - begin)
                preds = floats_at(output + start + 4 * sample * size)
                raws = floats_at(output + start + 4 * (sample + 1) * size)
                square, weighed, rest = float32(0.0), float32(0.0), float32(0.0)
                for i in range(count):
                    target = floats_at(source + start)[i] * a
                    if x0 is not None:
                        target = target - floats_at(x0 + start)[i] * b
                    error = target - preds[i]
                    inverse, excess = _excess(_log_ratio(raws[i], d0, d1))
                    square += error * error
                    weighed += error * error * inverse
                    rest += excess
                squares += square
                scaled += weighed
                rests += rest
            simples[sample] = float32(squares / size)
            bounds[sample] = float32((root * root * scaled + rests) * 0.5 / size)
        return found

    signature = _signature(rotated, int64, int64)
    return compile_loop("means", loop, signature, _constants(), reassociate=True)


@cache
def _gradients(rotated: bool) -> Callable[..., Any]:
    def loop(
        output, source, x0, t, table, batch, size, kind, for_simple, for_bound, detach_mean, out
    ):
        ts, columns = integers_at(t), floats_at(table)
        simples, bounds = floats_at(for_simple), floats_at(for_bound)
        by_size, found = float32(1.0 / size), False
        minus_two = float32(-2.0 / size)
        for sample in range(batch):
            level = ts[sample] * _WIDTH
            found |= ts[sample] == 1
            b, root, d0, d1 = (
                columns[level + 1], columns[level + 2], columns[level + 3], columns[level + 4]
            )  # fmt: skip
            a = factor(kind, columns[level], b)
            minus_simple, each = simples[sample] * minus_two, bounds[sample] * by_size
            square = root * root
            by_raw, by_error = each * float32(-0.5) * d1, -each * square
            start = 4 * sample * size
            preds, raws = floats_at(output + 2 * start), floats_at(output + 2 * start + 4 * size)
            for_pred, for_raw = floats_at(out + 2 * start), floats_at(out + 2 * start + 4 * size)
            for i in range(size):
                target = floats_at(source + start)[i] * a
                if x0 is not None:
                    target = target - floats_at(x0 + start)[i] * b
                error = target - preds[i]
                inverse = _exponential(_log_ratio(raws[i], d0, d1))
                excess = (error * error * square + float32(1.0)) * inverse - float32(1.0)
                for_raw[i] = excess * by_raw
                share = minus_simple if detach_mean else inverse * by_error + minus_simple
                for_pred[i] = error * share
        return found

    signature = _signature(rotated, int64, int64, boolean, int64)
    return compile_loop("gradients", loop, signature, _constants())


def _signature(rotated: bool, *outputs: Any) -> Any:
    x0 = int64 if rotated else types.none
    return boolean(int64, int64, x0, *(int64,) * 5, *outputs)


def _constants() -> tuple[Any, ...]:
    return _BLOCK, _WIDTH, _EXPONENTIAL
