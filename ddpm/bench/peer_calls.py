"""The peers as installed packages: their own functions, called as their own loops call them.

Levels here are 1..T; the peers' indices are 0..T - 1.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import Module, functional

from ddpm.bench.inputs import STEPS, VISITED, Inputs, T

DIFFUSERS = "diffusers"
LUCIDRAINS = "denoising-diffusion-pytorch"
MODULES = {DIFFUSERS: "diffusers", LUCIDRAINS: "denoising_diffusion_pytorch"}


@cache
def missing(peer: str) -> str:
    """Why a peer cannot take part, or nothing where it can; found out by importing it."""
    if find_spec(MODULES[peer]) is None:
        return "not installed"
    with warnings.catch_warnings():
        # What a peer's dependencies warn of is no business of ours.
        warnings.simplefilter("ignore")
        try:
            if find_spec("torchvision"):
                _declare_operators()
            import_module(MODULES[peer])
        except Exception as error:
            return f"cannot be imported: {type(error).__name__}"
    return ""


def missing_to_train(peer: str) -> str:
    """Why the training loop of a peer cannot run: both read images through torchvision."""
    return missing(peer) or ("" if find_spec("torchvision") else "without torchvision")


def _declare_operators() -> None:
    """Let torchvision be imported beside a torch of another build, as the peers need it.

    Wheels of torchvision from PyPI are built for CUDA. Beside a CPU build of torch their operators
    do not load, and without these two declared the import fails. The peers use image files only.
    """
    try:
        import_module("torchvision")
    except RuntimeError:
        for name in ("nms", "qnms"):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", schema)


class Stub(Module):
    """A network that costs nothing: it returns one tensor whatever it is asked.

    Args:
        output: What it returns.
        channels: Of the data.
    """

    def __init__(self, output: Tensor, channels: int) -> None:
        super().__init__()
        self.output = output
        self.channels, self.out_dim, self.self_condition = channels, output.shape[1], False

    def forward(self, *_: Any) -> Tensor:
        """Return the tensor."""
        return self.output


@contextmanager
def noise_from(noise: Tensor) -> Iterator[None]:
    """Hand this noise to everybody who draws some of its shape."""

    def given(*_: Any, **__: Any) -> Tensor:
        return noise

    with ExitStack() as stack:
        stack.enter_context(patch.object(torch, "randn_like", given))
        if not missing(DIFFUSERS):
            from diffusers.schedulers import scheduling_ddpm

            stack.enter_context(patch.object(scheduling_ddpm, "randn_tensor", given))
        yield


def diffusers_loss(
    inputs: Inputs, prediction: str
) -> Callable[[Tensor, Tensor | None], dict[str, Tensor]]:
    """Noising and mean squared error as in diffusers' training scripts.

    Args:
        inputs: The batch.
        prediction: "eps", "x0" or "v".

    Returns:
        A function of the network's output and the noise, None to draw it: "x_t" and "loss".
    """
    scheduler = _ddpm()
    x0, index = inputs.x0, inputs.t - 1

    def scored(output: Tensor, noise: Tensor | None) -> dict[str, Tensor]:
        eps = torch.randn_like(x0) if noise is None else noise
        noisy = scheduler.add_noise(x0, eps, index)
        if prediction == "v":
            target = scheduler.get_velocity(x0, eps, index)
        else:
            target = eps if prediction == "eps" else x0
        return {"x_t": noisy, "loss": functional.mse_loss(output.float(), target.float())}

    return scored


def diffusers_noising(inputs: Inputs) -> Callable[[Tensor], Tensor]:
    """Noising by diffusers, a function of the noise."""
    scheduler, index = _ddpm(), inputs.t - 1
    return lambda noise: scheduler.add_noise(inputs.x0, noise, index)


def diffusers_ddpm(inputs: Inputs) -> Callable[[], Tensor]:
    """One step of DDPMScheduler, its noise drawn, from level T to the one below."""
    scheduler = _ddpm()
    scheduler.set_timesteps(STEPS)
    t = scheduler.timesteps[STEPS - T]
    return lambda: scheduler.step(inputs.pred, t, inputs.x).prev_sample


def diffusers_ddim(inputs: Inputs) -> Callable[[Tensor], Tensor]:
    """One step of DDIMScheduler without noise, a function of the network's output."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(STEPS, beta_schedule="linear", timestep_spacing="trailing")
    scheduler.set_timesteps(len(VISITED) - 1)
    t = scheduler.timesteps[VISITED.index(T)]
    return lambda pred: scheduler.step(pred, t, inputs.x).prev_sample


def diffusers_dpm_solver(inputs: Inputs) -> Callable[[], tuple[Tensor, Tensor]]:
    """One step of DPMSolverMultistepScheduler (++, second order, midpoint) amid its loop.

    Returns:
        A function that gives x and the estimate of x_0.
    """
    from diffusers import DPMSolverMultistepScheduler

    scheduler: Any = DPMSolverMultistepScheduler(
        STEPS, beta_schedule="linear", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(len(VISITED) - 1)
    index = VISITED.index(T)
    t = scheduler.timesteps[index]

    def step() -> tuple[Tensor, Tensor]:
        # The scheduler counts its steps, so that each call is put back to the same one.
        scheduler._step_index, scheduler.lower_order_nums = index, 2
        scheduler.model_outputs = [None, inputs.history]
        moved = scheduler.step(inputs.pred, t, inputs.x).prev_sample
        estimate, scheduler.model_outputs = scheduler.model_outputs[-1], []
        return moved, estimate

    return step


def lucidrains_loss(
    inputs: Inputs, prediction: str, output: Tensor
) -> Callable[[Tensor | None], Tensor]:
    """Noising and loss of GaussianDiffusion, every level's weight 1; None to draw the noise.

    Args:
        inputs: The batch.
        prediction: "eps", "x0" or "v".
        output: What its network returns.
    """
    from denoising_diffusion_pytorch import GaussianDiffusion

    objective = {"eps": "pred_noise", "x0": "pred_x0", "v": "pred_v"}[prediction]
    peer = _lucidrains(GaussianDiffusion, inputs, output, objective)
    peer.loss_weight.fill_(1.0)
    index = inputs.t - 1
    return lambda noise: peer.p_losses(inputs.x0, index, noise=noise)


def lucidrains_hybrid(
    inputs: Inputs, output: Tensor, rate: float
) -> Callable[[Tensor | None], Tensor]:
    """Noising and hybrid loss of LearnedGaussianDiffusion; None to draw the noise.

    Args:
        inputs: The batch.
        output: What its network returns, [B, 2C, ...].
        rate: Factor of the bound, which it has in bits.
    """
    from denoising_diffusion_pytorch.learned_gaussian_diffusion import LearnedGaussianDiffusion

    peer = _lucidrains(LearnedGaussianDiffusion, inputs, output, "pred_noise", vb_loss_weight=rate)
    index = inputs.t - 1
    return lambda noise: peer.p_losses(inputs.x0, index, noise=noise)


def lucidrains_ddpm(inputs: Inputs) -> Callable[[], Tensor]:
    """One step of GaussianDiffusion.p_sample, its noise drawn, from level T to the one below."""
    from denoising_diffusion_pytorch import GaussianDiffusion

    peer = _lucidrains(GaussianDiffusion, inputs, inputs.pred, "pred_noise")
    return lambda: peer.p_sample(inputs.x, T - 1)[0]


def _ddpm() -> Any:
    from diffusers import DDPMScheduler

    return DDPMScheduler(STEPS, beta_schedule="linear")


def _lucidrains(kind: Any, inputs: Inputs, output: Tensor, objective: str, **more: float) -> Any:
    peer = kind(
        Stub(output, inputs.shape[1]),
        image_size=inputs.shape[2:],
        timesteps=STEPS,
        objective=objective,
        beta_schedule="linear",
        **more,
    )
    return peer.to(inputs.device)
