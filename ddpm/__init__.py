"""Denoising diffusion whose every formula is proven and whose hot path is fused.

    import ddpm

    schedule = ddpm.Schedule.log_snr_linear(300)
    diffusion = ddpm.GaussianDiffusion(schedule, prediction="eps")

Names are loaded when they are first used, so that `ddpm --help` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddpm.data.images import ImageData
    from ddpm.data.load import load_images
    from ddpm.diffusion import Gaussian, GaussianDiffusion, Reverse
    from ddpm.errors import InputError
    from ddpm.keys import Key
    from ddpm.levels import trailing
    from ddpm.likelihood import calc_bpd_loop
    from ddpm.models.unet import UNet, UNetConfig
    from ddpm.multistep import dpm_solver_table, heun_table
    from ddpm.samplers import StepTable, ancestral_table, ddim_table
    from ddpm.sampling import Guidance, State
    from ddpm.schedule import Schedule
    from ddpm.sde_tables import euler_maruyama_table
    from ddpm.weightings import weight_table

__version__ = "0.1.0"

_HOMES = {
    "Gaussian": "diffusion",
    "GaussianDiffusion": "diffusion",
    "Guidance": "sampling",
    "ImageData": "data.images",
    "InputError": "errors",
    "Key": "keys",
    "Reverse": "diffusion",
    "Schedule": "schedule",
    "State": "sampling",
    "StepTable": "samplers",
    "UNet": "models.unet",
    "UNetConfig": "models.unet",
    "ancestral_table": "samplers",
    "calc_bpd_loop": "likelihood",
    "ddim_table": "samplers",
    "dpm_solver_table": "multistep",
    "euler_maruyama_table": "sde_tables",
    "heun_table": "multistep",
    "load_images": "data.load",
    "trailing": "levels",
    "weight_table": "weightings",
}

__all__ = [
    "Gaussian",
    "GaussianDiffusion",
    "Guidance",
    "ImageData",
    "InputError",
    "Key",
    "Reverse",
    "Schedule",
    "State",
    "StepTable",
    "UNet",
    "UNetConfig",
    "ancestral_table",
    "calc_bpd_loop",
    "ddim_table",
    "dpm_solver_table",
    "euler_maruyama_table",
    "heun_table",
    "load_images",
    "trailing",
    "weight_table",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"ddpm.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ddpm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
