"""Denoising diffusion whose every formula is proven and whose hot path is fused.

    import ddpm

    schedule = ddpm.Schedule.log_snr_linear(300)
    diffusion = ddpm.GaussianDiffusion(schedule, prediction="eps")

Names are loaded when they are first used, so that `ddpm --help` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddpm.analytic import GaussianMixture
    from ddpm.config import RunConfig
    from ddpm.data.images import ImageData
    from ddpm.data.load import load_images
    from ddpm.diffusion import Gaussian, GaussianDiffusion, Reverse
    from ddpm.discrete.process import DiscreteDiffusion
    from ddpm.errors import InputError
    from ddpm.keys import Key
    from ddpm.learned_schedule import MonotoneLogSnr, ScheduledNetwork
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
    from ddpm.samplers.catalogue import table_of
    from ddpm.samplers.classifier_guidance import classifier_guided
    from ddpm.samplers.corrector import predictor_corrector_table
    from ddpm.samplers.ddim import ddim_table
    from ddpm.samplers.flow_tables import euler_table
    from ddpm.samplers.ilvr import Ilvr
    from ddpm.samplers.inpainting import Inpainting
    from ddpm.samplers.interpolation import interpolate
    from ddpm.samplers.inversion import invert
    from ddpm.samplers.levels import spaced, trailing
    from ddpm.samplers.loop import Guidance, State
    from ddpm.samplers.multistep import dpm_solver_first_table, dpm_solver_table, heun_table
    from ddpm.samplers.sampler import Sampler
    from ddpm.samplers.sde import euler_maruyama_table
    from ddpm.samplers.stochastic import dpm_solver_sde_table, stochastic_heun_table
    from ddpm.samplers.tables import StepTable
    from ddpm.schedule import Schedule
    from ddpm.training.level_samplers import LevelSampler, level_sampler
    from ddpm.training.trainer import Trainer
    from ddpm.weightings import weight_table

__version__ = "0.1.0"

_HOMES = {
    "DiscreteDiffusion": "discrete.process",
    "Gaussian": "diffusion",
    "GaussianDiffusion": "diffusion",
    "GaussianMixture": "analytic",
    "Guidance": "samplers.loop",
    "Ilvr": "samplers.ilvr",
    "ImageData": "data.images",
    "Inpainting": "samplers.inpainting",
    "InputError": "errors",
    "Key": "keys",
    "LevelSampler": "training.level_samplers",
    "MLP": "models.mlp",
    "MLPConfig": "models.mlp",
    "MonotoneLogSnr": "learned_schedule",
    "Prior": "prior",
    "PriorDiffusion": "prior_diffusion",
    "Reverse": "diffusion",
    "RunConfig": "config",
    "Sampler": "samplers.sampler",
    "Schedule": "schedule",
    "ScheduledNetwork": "learned_schedule",
    "State": "samplers.loop",
    "StepTable": "samplers.tables",
    "Trainer": "training.trainer",
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
    "classifier_guided": "samplers.classifier_guidance",
    "ddim_table": "samplers.ddim",
    "dpm_solver_first_table": "samplers.multistep",
    "dpm_solver_sde_table": "samplers.stochastic",
    "dpm_solver_table": "samplers.multistep",
    "euler_maruyama_table": "samplers.sde",
    "euler_table": "samplers.flow_tables",
    "heun_table": "samplers.multistep",
    "interpolate": "samplers.interpolation",
    "invert": "samplers.inversion",
    "level_sampler": "training.level_samplers",
    "load_images": "data.load",
    "predictor_corrector_table": "samplers.corrector",
    "spaced": "samplers.levels",
    "stochastic_heun_table": "samplers.stochastic",
    "table_of": "samplers.catalogue",
    "trailing": "samplers.levels",
    "weight_table": "weightings",
}

__all__ = [
    "MLP",
    "DiscreteDiffusion",
    "Gaussian",
    "GaussianDiffusion",
    "GaussianMixture",
    "Guidance",
    "Ilvr",
    "ImageData",
    "Inpainting",
    "InputError",
    "Key",
    "LevelSampler",
    "MLPConfig",
    "MonotoneLogSnr",
    "Prior",
    "PriorDiffusion",
    "Reverse",
    "RunConfig",
    "Sampler",
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
    "classifier_guided",
    "ddim_table",
    "dpm_solver_first_table",
    "dpm_solver_sde_table",
    "dpm_solver_table",
    "euler_maruyama_table",
    "euler_table",
    "heun_table",
    "interpolate",
    "invert",
    "level_sampler",
    "load_images",
    "predictor_corrector_table",
    "spaced",
    "stochastic_heun_table",
    "table_of",
    "trailing",
    "weight_table",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"ddpm.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ddpm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
