"""Checks made before a kernel is launched; every message names argument, value and what is allowed.

Shapes, dtypes and devices are checked wherever a tensor lives. Values are checked only where that
costs no synchronisation, which is on the CPU; on a GPU a level outside its table yields NaN.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

STORAGE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_STREAM = 2**8
MAX_STEP = 2**32
MAX_SAMPLE = 2**56
MAX_SIZE = 2**34

# Numbers that Python compares faster than it calls torch.
_FEW = 32


def check_storage(name: str, x: Tensor) -> None:
    """Require a contiguous float32, float16 or bfloat16 tensor with a batch dimension."""
    check_dtype(name, x, STORAGE_DTYPES)
    if x.ndim < 1:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; allowed: [B, ...]")
    check_contiguous(name, x)
    if x.shape[0] and x.numel() // x.shape[0] > MAX_SIZE:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; allowed: at most 2**34 per sample")


def check_contiguous(name: str, x: Tensor) -> None:
    """Require row-major storage without gaps."""
    if not x.is_contiguous():
        raise ValueError(
            f"{name} has strides {tuple(x.stride())} for shape {tuple(x.shape)}; "
            "allowed: contiguous, call .contiguous() first"
        )


def check_dtype(name: str, x: Tensor, allowed: Sequence[torch.dtype]) -> None:
    """Require one of the allowed dtypes."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} is {type(x).__name__}; allowed: torch.Tensor")
    if x.dtype not in allowed:
        raise ValueError(f"{name} has dtype {x.dtype}; allowed: {', '.join(map(str, allowed))}")


def check_shape(name: str, x: Tensor, *allowed: tuple[int, ...]) -> None:
    """Require one of the allowed shapes."""
    if x.shape not in allowed:
        shapes = " or ".join(str(tuple(shape)) for shape in allowed)
        raise ValueError(f"{name} has shape {tuple(x.shape)}; allowed: {shapes}")


def check_same_device(device: torch.device, **tensors: Tensor | None) -> None:
    """Require every tensor that is given to live on one device."""
    for name, x in tensors.items():
        if x is not None and x.device != device:
            raise ValueError(f"{name} is on device {x.device}; allowed: {device}")


def check_no_grad(**tensors: Tensor | None) -> None:
    """Refuse gradients through arguments that have none."""
    for name, x in tensors.items():
        if x is not None and x.requires_grad:
            raise ValueError(
                f"{name} has requires_grad=True; allowed: False, "
                f"no gradient is defined for {name}: call .detach() first"
            )


def check_index(name: str, x: Tensor, *shapes: tuple[int, ...]) -> None:
    """Require a contiguous int64 tensor of one of the given shapes."""
    check_dtype(name, x, (torch.int64,))
    check_shape(name, x, *shapes)
    check_contiguous(name, x)


def check_vector(name: str, x: Tensor, length: int | None = None) -> None:
    """Require a contiguous float32 vector, of the given length if there is one."""
    check_dtype(name, x, (torch.float32,))
    if length is not None:
        check_shape(name, x, (length,))
    elif x.ndim != 1 or x.shape[0] == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; allowed: a non-empty vector")
    check_contiguous(name, x)


def check_incoming(grad: Tensor, like: Tensor) -> None:
    """Require the gradient of a loss of each sample, on the device of the samples."""
    check_vector("grad", grad, like.shape[0])
    check_same_device(like.device, grad=grad)


def check_tables(t: Tensor, signal: Tensor, sigma: Tensor, batch: int) -> None:
    """Require levels [B] and two float32 tables of the same length T + 1."""
    check_index("t", t, (batch,))
    check_vector("signal", signal)
    check_vector("sigma", sigma)
    check_shape("sigma", sigma, tuple(signal.shape))


def are_levels(t: Tensor, signal: Tensor, sigma: Tensor, batch: int) -> bool:
    """Whether `check_tables` accepts these on the CPU, without gradients: the quick way to know."""
    return (
        t.dtype is torch.int64
        and signal.dtype is torch.float32
        and sigma.dtype is torch.float32
        and t.shape == (batch,)
        and signal.ndim == 1
        and signal.numel() > 0
        and sigma.ndim == 1
        and signal.numel() == sigma.numel()
        and t.is_contiguous()
        and signal.is_contiguous()
        and sigma.is_contiguous()
        and t.is_cpu
        and signal.is_cpu
        and sigma.is_cpu
        and not signal.requires_grad
        and not sigma.requires_grad
    )


def are_alike(x: Tensor, y: Tensor) -> bool:
    """Whether `check_storage` accepts x and y, which agree in shape, on the CPU."""
    return (
        x.dtype in STORAGE_DTYPES
        and y.dtype in STORAGE_DTYPES
        and x.shape == y.shape
        and x.ndim > 0
        and x.is_contiguous()
        and y.is_contiguous()
        and x.is_cpu
        and y.is_cpu
        and x.numel() <= MAX_SIZE
    )


def are_places(seed: Tensor, step: Tensor, sample: Tensor, batch: int) -> bool:
    """Whether `check_place` accepts these, on the CPU."""
    return (
        seed.dtype is torch.int64
        and step.dtype is torch.int64
        and sample.dtype is torch.int64
        and seed.ndim == 0
        and (step.ndim == 0 or (step.shape == (batch,) and step.is_contiguous()))
        and sample.shape == (batch,)
        and sample.is_contiguous()
        and seed.is_cpu
        and step.is_cpu
        and sample.is_cpu
    )


def check_range(name: str, x: Tensor, end: int) -> None:
    """Require 0 <= x < end where x is on the CPU; elsewhere reading x would be a wait."""
    count = x.numel()
    if not x.is_cpu or count == 0:
        return
    if count == 1:
        low = high = int(x)
    elif count <= _FEW:
        values = x.flatten().tolist()
        low, high = min(values), max(values)
    else:
        low, high = (int(bound) for bound in x.aminmax())
    if low < 0 or high >= end:
        value = low if low < 0 else high
        raise ValueError(f"{name} contains {value}; allowed: 0..{end - 1}")


def check_stream(stream: int) -> None:
    """Require a stream tag of 8 bits."""
    if not 0 <= stream < MAX_STREAM:
        raise ValueError(f"stream is {stream}; allowed: 0..{MAX_STREAM - 1}")


def check_place(
    seed: Tensor, step: Tensor, sample: Tensor, batch: int, step_name: str = "step"
) -> None:
    """Require seed [], step [] or [B] and sample [B], all int64."""
    check_index("seed", seed, ())
    check_index(step_name, step, (), (batch,))
    check_index("sample", sample, (batch,))


def check_drawable(
    seed: Tensor | None, step: Tensor | None, sample: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Require the place of a draw, which may be left out where noise is given."""
    if seed is None or step is None or sample is None:
        missing = "seed" if seed is None else "step" if step is None else "sample"
        raise ValueError(f"{missing} is None; allowed where noise is None: a tensor")
    return seed, step, sample


def check_counter(seed: Tensor, step: Tensor, sample: Tensor, stream: int, size: int) -> None:
    """Require the arguments of a draw."""
    check_dtype("sample", sample, (torch.int64,))
    if sample.ndim != 1:
        raise ValueError(f"sample has shape {tuple(sample.shape)}; allowed: [B]")
    check_place(seed, step, sample, sample.shape[0])
    check_same_device(sample.device, seed=seed, step=step)
    check_stream(stream)
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"size is {size}; allowed: 0..{MAX_SIZE}")


def check_counter_range(step: Tensor, sample: Tensor) -> None:
    """Require values that fit into the words of a counter, where they are on the CPU."""
    check_range("step", step, MAX_STEP)
    check_range("sample", sample, MAX_SAMPLE)
