"""Standard normal noise made on the device in one launch, a function of where it is used."""

import torch
from torch import Tensor

from ddpm.kernels import batching, checks
from ddpm.kernels.philox import normals

# Elements that are drawn in float32 and rounded at a time: they stay in the cache, and below the
# 2**15 from which torch starts threads for a copy.
_CACHE_BLOCK = 2**15 - 1


def normal(
    seed: Tensor,
    step: Tensor,
    sample: Tensor,
    stream: int,
    shape: list[int],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw standard normal noise for a batch of samples.

    Args:
        seed: int64 [], any value.
        step: int64 [] or [B], in 0..2**32 - 1.
        sample: int64 [B], global sample indices in 0..2**56 - 1.
        stream: tag of the use, 0..255 (see `ddpm.kernels.streams.Stream`).
        shape: shape of one sample, without the batch.
        dtype: float32, float16 or bfloat16; the float32 numbers are rounded once.

    Returns:
        [B, *shape] of that dtype, the `ddpm.kernels.philox.normals` of the same arguments.

    Raises:
        ValueError: an argument is outside its range.
    """
    result: Tensor = _dispatched(seed, step, sample, int(stream), list(shape), dtype)
    return result


def check_normal(
    seed: Tensor,
    step: Tensor,
    sample: Tensor,
    stream: int,
    shape: list[int],
    dtype: torch.dtype,
) -> int:
    """Check everything that is known before a launch; give the numbers per sample."""
    if dtype not in checks.STORAGE_DTYPES:
        allowed = ", ".join(map(str, checks.STORAGE_DTYPES))
        raise ValueError(f"dtype is {dtype}; allowed: {allowed}")
    if any(length < 0 for length in shape):
        raise ValueError(f"shape is {list(shape)}; allowed: lengths of at least 0")
    size = 1
    for length in shape:
        size *= length
    checks.check_counter(seed, step, sample, stream, size)
    return size


@torch.library.custom_op("ddpm::normal", mutates_args=(), device_types="cpu")
def _normal(
    seed: Tensor,
    step: Tensor,
    sample: Tensor,
    stream: int,
    shape: list[int],
    dtype: torch.dtype,
) -> Tensor:
    size = check_normal(seed, step, sample, stream, shape, dtype)
    if dtype == torch.float32:
        return normals(seed, step, sample, stream, size).view(sample.shape[0], *shape)
    out = torch.empty(sample.shape[0], *shape, dtype=dtype)
    rows = max(1, _CACHE_BLOCK // max(1, size))
    block = torch.empty(min(rows, sample.shape[0]), size)
    for start in range(0, sample.shape[0], rows):
        part = sample[start : start + rows]
        steps = step[start : start + rows] if step.ndim else step
        drawn = normals(seed, steps, part, stream, size, block[: part.shape[0]])
        out[start : start + rows].view(part.shape[0], size).copy_(drawn)
    return out


@_normal.register_kernel("cuda")
def _(
    seed: Tensor,
    step: Tensor,
    sample: Tensor,
    stream: int,
    shape: list[int],
    dtype: torch.dtype,
) -> Tensor:
    from ddpm.kernels.gpu.normal import normal as draw

    check_normal(seed, step, sample, stream, shape, dtype)
    return draw(seed, step, sample, stream, shape, dtype)


@_normal.register_fake
def _(
    seed: Tensor,
    step: Tensor,
    sample: Tensor,
    stream: int,
    shape: list[int],
    dtype: torch.dtype,
) -> Tensor:
    check_normal(seed, step, sample, stream, shape, dtype)
    return torch.empty(sample.shape[0], *shape, dtype=dtype, device=sample.device)


_dispatched = batching.register(_normal)
