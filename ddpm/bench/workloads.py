"""The operations that are timed and the shapes that they are timed on: one list for everybody."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from ddpm.bench import sampling_loads, training_loads
from ddpm.bench.contender import Workload
from ddpm.bench.inputs import Inputs

SMALL, MIDDLE, LARGE = (1, 3, 32, 32), (64, 3, 32, 32), (64, 3, 64, 64)
HUGE = (1024, 3, 64, 64)
"""For GPUs: 48 MiB in float32, about what their second-level caches hold."""


@dataclass(frozen=True)
class Operation:
    """An operation and where it matters.

    Attributes:
        name: What it is called on the command line.
        build: Makes the workload from a batch.
        shapes: Batches that it is timed on.
    """

    name: str
    build: Callable[[Inputs], Workload]
    shapes: tuple[tuple[int, ...], ...]


_TRAINING, _SAMPLING = (SMALL, MIDDLE), (SMALL, LARGE)

OPERATIONS = (
    Operation("noising", training_loads.noising_given, _TRAINING),
    Operation("noising-drawn", training_loads.noising_drawn, _TRAINING),
    Operation("loss-eps", partial(training_loads.simple, prediction="eps"), _TRAINING),
    Operation("loss-x0", partial(training_loads.simple, prediction="x0"), _TRAINING),
    Operation("loss-v", partial(training_loads.simple, prediction="v"), _TRAINING),
    Operation(
        "loss-drawn", partial(training_loads.simple, prediction="eps", drawn=True), (SMALL, MIDDLE)
    ),
    Operation("loss-hybrid", training_loads.hybrid, _TRAINING),
    Operation("loss-hybrid-drawn", partial(training_loads.hybrid, drawn=True), _TRAINING),
    Operation("step-ddpm", sampling_loads.ddpm, _SAMPLING),
    Operation("step-ddim", sampling_loads.ddim, _SAMPLING),
    Operation("step-guided", sampling_loads.guided, _SAMPLING),
    Operation("step-2m", sampling_loads.second_order, _SAMPLING),
    Operation("normals", sampling_loads.normals, _SAMPLING),
)

Case = Callable[[], Workload]


def cases(device: torch.device, only: str = "") -> list[tuple[str, Case]]:
    """The workloads of a device, each with its label and built when it is called.

    Args:
        device: Where to work. A GPU gets a larger batch too, and every batch also in bfloat16.
        only: Part of the name of the operations; empty for all.
    """
    on_gpu = device.type == "cuda"
    dtypes = (torch.float32, torch.bfloat16) if on_gpu else (torch.float32,)
    return [
        (f"{operation.name} {shape}", partial(operation.build, Inputs(shape, dtype, device)))
        for operation in OPERATIONS
        if only in operation.name
        for shape in (*operation.shapes, *((HUGE,) if on_gpu else ()))
        for dtype in dtypes
    ]
