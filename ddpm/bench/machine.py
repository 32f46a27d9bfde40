"""What a benchmark has to say of the machine and the software that it ran on."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

from ddpm.bench.clock import cores
from ddpm.bench.formulas import compiler_fault

PACKAGES = ("torch", "triton", "numba", "numpy", "diffusers", "denoising-diffusion-pytorch")


def describe(device: torch.device, compile_too: bool, processor_time: bool) -> dict[str, object]:
    """Names, numbers and versions.

    Args:
        device: Where the tensors are.
        compile_too: Whether torch.compile takes part, which is tried once.
        processor_time: Whether the clock stands still while other processes run.
    """
    on_gpu = device.type == "cuda"
    return {
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "platform": "rocm" if on_gpu and torch.version.hip else device.type,
        "processor": platform.machine(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "clock": "events" if on_gpu else "processor time" if processor_time else "wall",
        "python": ".".join(map(str, sys.version_info[:3])),
        "versions": {name: _version(name) for name in PACKAGES},
        "torch_compile": (compiler_fault() or "works") if compile_too else "left out",
        "cuda_graphs": "replayed where a call can be recorded" if on_gpu else "no GPU here",
        "l2_flush": "before every call" if on_gpu else "no GPU here",
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
