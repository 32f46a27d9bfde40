# Compiled functions have no Python types: numba gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The weighted mean squared error of each sample and its gradient, one loop over memory each.

The gradient has the bits of torch's. The sum is split among the lanes of a vector, blocks of it are
added in float64, and it differs from torch's in the last places.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import float32, int64, types
from torch import Tensor

from ddpm.kernels.cpu.compiling import compile_loop, floats_at, integers_at
from ddpm.kernels.cpu.targets import factor, kind_of
from ddpm.kernels.squared_errors import Errors

# Elements summed in float32: few enough that no sum of lanes loses a place.
_BLOCK = 2048


def losses(given: Errors, out: Tensor) -> bool:
    """Write weight times the mean squared error of each sample to out [B].

    Args:
        given: pred, source, x0 or None, t, signal, sigma, weight and score, float32 on the CPU and
            contiguous. The target is source, or -source / sigma[t] where score is set, or, where x0
            is given, signal[t] source - sigma[t] x0.
        out: float32 [B].

    Returns:
        False where a level is outside the tables; then nothing is written.
    """
    done: bool = _losses(given[2] is not None)(*_addresses(given), out.data_ptr())
    return done


def gradient(given: Errors, grad: Tensor, out: Tensor) -> bool:
    """Write the gradient of pred.

    Args:
        given: as for `losses`.
        grad: float32 [B], that of the losses, of any stride.
        out: like pred.

    Returns:
        False where a level is outside the tables; then nothing is written.
    """
    done: bool = _gradient(given[2] is not None)(
        *_addresses(given), grad.data_ptr(), grad.stride(0), out.data_ptr()
    )
    return done


def _addresses(given: Errors) -> tuple[int | None, ...]:
    """Give the arguments that the loops have in common."""
    pred, source, x0, t, signal, sigma, weight, score = given
    batch = pred.shape[0]
    return (
        pred.data_ptr(),
        source.data_ptr(),
        None if x0 is None else x0.data_ptr(),
        t.data_ptr(),
        signal.data_ptr(),
        sigma.data_ptr(),
        weight.data_ptr(),
        signal.shape[0],
        batch,
        pred.numel() // max(1, batch),
        kind_of(x0, score),
    )


def _signature(rotated: bool, outputs: int) -> Any:
    x0 = int64 if rotated else types.none
    return types.boolean(int64, int64, x0, *(int64,) * (8 + outputs))


@cache
def _losses(rotated: bool) -> Callable[..., Any]:
    def loop(pred, source, x0, t, signal, sigma, weight, levels, batch, size, kind, out):
        ts, signals, sigmas = integers_at(t), floats_at(signal), floats_at(sigma)
        weights, outs = floats_at(weight), floats_at(out)
        for sample in range(batch):
            if not 0 <= ts[sample] < levels:
                return False
        for sample in range(batch):
            b = sigmas[ts[sample]]
            a = factor(kind, signals[ts[sample]], b)
            total = 0.0
            for begin in range(0, size, _BLOCK):
                start, count = 4 * (sample * size + begin), min(_BLOCK, size - begin)
                preds, part = floats_at(pred + start), float32(0.0)
                for i in range(count):
                    target = floats_at(source + start)[i] * a
                    if x0 is not None:
                        target = target - floats_at(x0 + start)[i] * b
                    error = preds[i] - target
                    part += error * error
                total += part
            outs[sample] = float32(total) * (weights[sample] / float32(max(1, size)))
        return True

    return compile_loop("losses", loop, _signature(rotated, 1), (_BLOCK,), reassociate=True)


@cache
def _gradient(rotated: bool) -> Callable[..., Any]:
    def loop(
        pred, source, x0, t, signal, sigma, weight, levels, batch, size, kind, grad, stride, out
    ):
        ts, signals, sigmas = integers_at(t), floats_at(signal), floats_at(sigma)
        weights, grads = floats_at(weight), floats_at(grad)
        for sample in range(batch):
            if not 0 <= ts[sample] < levels:
                return False
        for sample in range(batch):
            b = sigmas[ts[sample]]
            a = factor(kind, signals[ts[sample]], b)
            scale = grads[sample * stride] * (weights[sample] / float32(max(1, size)))
            start = 4 * sample * size
            preds, outs = floats_at(pred + start), floats_at(out + start)
            for i in range(size):
                target = floats_at(source + start)[i] * a
                if x0 is not None:
                    target = target - floats_at(x0 + start)[i] * b
                outs[i] = float32(2.0) * (preds[i] - target) * scale
        return True

    return compile_loop("gradient", loop, _signature(rotated, 3))
