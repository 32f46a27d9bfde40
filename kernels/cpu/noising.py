# Compiled functions have no Python types: numba gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Noising as one loop over the elements of a sample, with the bits of torch's."""

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import int64, types
from torch import Tensor

from ddpm.kernels.cpu.compiling import compile_loop, floats_at, integers_at


def mix(
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    out: Tensor,
    v: Tensor | None,
) -> bool:
    """Write signal[t] x0 + sigma[t] noise to out, and signal[t] noise - sigma[t] x0 to v.

    Args:
        x0: float32 [B, ...], contiguous, as are all others.
        noise: like x0.
        t: int64 [B].
        signal: float32 [T + 1].
        sigma: float32 [T + 1].
        out: like x0.
        v: like x0, or None.

    Returns:
        False where a level is outside the tables; then nothing is written.
    """
    batch = x0.shape[0]
    done: bool = _loop(v is not None)(
        x0.data_ptr(),
        noise.data_ptr(),
        t.data_ptr(),
        signal.data_ptr(),
        sigma.data_ptr(),
        signal.shape[0],
        batch,
        x0.numel() // max(1, batch),
        out.data_ptr(),
        None if v is None else v.data_ptr(),
    )
    return done


@cache
def _loop(velocity: bool) -> Callable[..., Any]:
    """Compile the loop, with the velocity or without."""

    def loop(x0, noise, t, signal, sigma, levels, batch, size, out, v):
        ts, signals, sigmas = integers_at(t), floats_at(signal), floats_at(sigma)
        for sample in range(batch):
            if not 0 <= ts[sample] < levels:
                return False
        for sample in range(batch):
            a, b = signals[ts[sample]], sigmas[ts[sample]]
            start = 4 * sample * size
            xs, zs, outs = floats_at(x0 + start), floats_at(noise + start), floats_at(out + start)
            for i in range(size):
                outs[i] = xs[i] * a + zs[i] * b
                if v is not None:
                    floats_at(v + start)[i] = zs[i] * a - xs[i] * b
        return True

    signature = types.boolean(*(int64,) * 9, int64 if velocity else types.none)
    return compile_loop("mix", loop, signature)
