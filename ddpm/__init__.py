"""Denoising diffusion whose every formula is proven and whose hot path is fused.

    import ddpm

    schedule = ddpm.Schedule.log_snr_linear(300)
    diffusion = ddpm.GaussianDiffusion(schedule, prediction="eps")

Names are loaded when they are first used, so that `ddpm --help` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddpm.config import RunConfig
    from ddpm.data.images import ImageData
    from ddpm.data.load import load_images
    from ddpm.diffusion import Gaussian, GaussianDiffusion, Reverse
    from ddpm.discrete.process import DiscreteDiffusion
    from ddpm.errors import InputError
    from ddpm.keys import Key
    from ddpm.learned_schedule import MonotoneLogSnr, ScheduledNetwork
    from ddpm.level_samplers import LevelSampler, level_sampler
    from ddpm.likelihood import calc_bpd_loop
    from ddpm.models.mlp import MLP, MLPConfig
    from ddpm.models.network import build_network
    from ddpm.models.transformer import Transformer, TransformerConfig
    from ddpm.models.unet import UNet, UNetConfig
    from ddpm.models.untied import Untied, UntiedConfig
    from ddpm.models.vae import Vae, VaeConfig
    from ddpm.prior import Prior
    from ddpm.prior_diffusion import PriorDiffusion
    from ddpm.samplers.ancestral import ancestral_table
    from ddpm.samplers.ddim import ddim_table
    from ddpm.samplers.levels import trailing
    from ddpm.samplers.loop import Guidance, State
    from ddpm.samplers.multistep import dpm_solver_table, heun_table
    from ddpm.samplers.sde import euler_maruyama_table
    from ddpm.samplers.tables import StepTable
    from ddpm.schedule import Schedule
    from ddpm.trainer import Trainer
    from ddpm.weightings import weight_table

__version__ = "0.1.0"

_HOMES = {
    "DiscreteDiffusion": "discrete.process",
    "Gaussian": "diffusion",
    "GaussianDiffusion": "diffusion",
    "Guidance": "samplers.loop",
    "ImageData": "data.images",
    "InputError": "errors",
    "Key": "keys",
    "LevelSampler": "level_samplers",
    "MLP": "models.mlp",
    "MLPConfig": "models.mlp",
    "MonotoneLogSnr": "learned_schedule",
    "Prior": "prior",
    "PriorDiffusion": "prior_diffusion",
    "Reverse": "diffusion",
    "RunConfig": "config",
    "Schedule": "schedule",
    "ScheduledNetwork": "learned_schedule",
    "State": "samplers.loop",
    "StepTable": "samplers.tables",
    "Trainer": "trainer",
    "Transformer": "models.transformer",
    "TransformerConfig": "models.transformer",
    "UNet": "models.unet",
    "UNetConfig": "models.unet",
    "Untied": "models.untied",
    "UntiedConfig": "models.untied",
    "Vae": "models.vae",
    "VaeConfig": "models.vae",
    "ancestral_table": "samplers.ancestral",
    "build_network": "models.network",
    "calc_bpd_loop": "likelihood",
    "ddim_table": "samplers.ddim",
    "dpm_solver_table": "samplers.multistep",
    "euler_maruyama_table": "samplers.sde",
    "heun_table": "samplers.multistep",
    "level_sampler": "level_samplers",
    "load_images": "data.load",
    "trailing": "samplers.levels",
    "weight_table": "weightings",
}

__all__ = [
    "MLP",
    "DiscreteDiffusion",
    "Gaussian",
    "GaussianDiffusion",
    "Guidance",
    "ImageData",
    "InputError",
    "Key",
    "LevelSampler",
    "MLPConfig",
    "MonotoneLogSnr",
    "Prior",
    "PriorDiffusion",
    "Reverse",
    "RunConfig",
    "Schedule",
    "ScheduledNetwork",
    "State",
    "StepTable",
    "Trainer",
    "Transformer",
    "TransformerConfig",
    "UNet",
    "UNetConfig",
    "Untied",
    "UntiedConfig",
    "Vae",
    "VaeConfig",
    "ancestral_table",
    "build_network",
    "calc_bpd_loop",
    "ddim_table",
    "dpm_solver_table",
    "euler_maruyama_table",
    "heun_table",
    "level_sampler",
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
