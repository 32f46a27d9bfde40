"""Run every operation on a device and on the CPU and compare; a script, so that kernels compile.

The tests set TRITON_INTERPRET, under which nothing is compiled; this runs in a process without it:

    python -m tests.devices.compare cuda
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import ddpm
from ddpm.kernels.diffusion_loss import diffusion_loss
from ddpm.kernels.dynamic_threshold import dynamic_threshold
from ddpm.kernels.normal import normal
from ddpm.kernels.q_sample import q_sample, q_sample_drawn
from ddpm.kernels.q_sample_v import q_sample_v
from ddpm.kernels.sampler_step import sampler_step, sampler_step_multistep
from ddpm.kernels.streams import Stream
from ddpm.kernels.variational_loss import variational_loss
from ddpm.keys import Key
from ddpm.samplers.multistep import dpm_solver_table
from ddpm.samplers.tables import StepTable
from ddpm.samplers.variances import Variance
from ddpm.variational import variational_table
from tests.tolerances import tolerance

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SHAPES = ((3, 1, 7, 5), (2, 3, 32, 32), (5, 4097), (2, 20_000), (1, 1))
VARIANCES: tuple[Variance, ...] = ("learned", "learned_range", "learned_sigmoid")
DIFFUSION = ddpm.GaussianDiffusion(ddpm.Schedule.log_snr_linear(50))


class Inputs:
    """The same numbers on any device."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
        batch = shape[0]
        key = Key.of(-5, range(2**33, 2**33 + batch), step=7)

        def drawn(stream: int, doubled: bool = False) -> Tensor:
            one = [shape[1] * (1 + doubled), *shape[2:]]
            value = normal(key.seed, key.step, key.sample, stream, one, torch.float32)
            return value.to(dtype).to(device)

        self.x, self.noise, self.pred, self.other = (drawn(stream) for stream in range(200, 204))
        self.output, self.other_output = drawn(204, doubled=True), drawn(205, doubled=True)
        # Grey levels of an image that has 17 of them, exact in every dtype.
        self.grey = ((drawn(206).float() * 4).round().clamp(-8, 8) / 8).to(dtype)
        self.scale = torch.linspace(0, 3, batch, device=device)
        self.t = (torch.arange(batch) * 13 % 50 + 1).to(device)
        self.weight = torch.linspace(0.5, 2, batch, device=device)
        self.signal, self.sigma = DIFFUSION.tables(torch.device(device))
        self.key = Key.of(-5, range(2**33, 2**33 + batch), step=7, device=device)


def noising(i: Inputs) -> list[Tensor]:
    place = (i.key.seed, i.key.step, i.key.sample)
    return [
        q_sample(i.x, i.noise, i.t, i.signal, i.sigma),
        q_sample_drawn(i.x, i.t, i.signal, i.sigma, *place),
        *q_sample_v(i.x, i.noise, i.t, i.signal, i.sigma),
        *q_sample_v(i.x, None, i.t, i.signal, i.sigma, *place),
        normal(*place, Stream.INITIAL_NOISE, list(i.x.shape[1:]), i.x.dtype),
    ]


def losses(i: Inputs) -> list[Tensor]:
    found = []
    for prediction in ("eps", "x0", "v", "score"):
        for noise in (i.noise, None):
            pred = i.pred.clone().requires_grad_()
            loss = diffusion_loss(
                pred, i.x, noise, i.t, i.signal, i.sigma, i.weight,
                i.key.seed, i.key.step, i.key.sample, prediction,
            )  # fmt: skip
            (gradient,) = torch.autograd.grad(loss.sum(), pred)
            found += [loss.detach(), gradient * pred[0].numel()]
    return found


def bounds(i: Inputs) -> list[Tensor]:
    found: list[Tensor] = []
    for learned in ("log", "sigmoid"):
        table = variational_table(DIFFUSION.schedule, "v", learned, 17).float().to(i.x.device)
        for noise in (i.noise, None):
            output = i.output.clone().requires_grad_()
            parts = variational_loss(
                output, i.grey, noise, i.t, table, i.weight, 0.05 * i.weight,
                i.key.seed, i.key.step, i.key.sample, "v", learned, noise is None,
            )  # fmt: skip
            (gradient,) = torch.autograd.grad(parts[0].sum(), output)
            found += [*(part.detach() for part in parts), gradient * output[0].numel()]
    return found


def steps(i: Inputs) -> list[Tensor]:
    found: list[Tensor] = []
    levels = ddpm.trailing(50, 10)
    for eta in (0.0, 1.0):
        table = ddpm.ddim_table(DIFFUSION.schedule, "v", levels, eta).to(i.x.device)
        for clip in (0.0, 1.0):
            found.append(sampler_step(i.x, i.pred, *_place(table, i), clip, table.noisy))
        guidance: dict[str, Any] = {"uncond": i.other, "guidance_scale": i.scale}
        found.append(sampler_step(i.x, i.pred, *_place(table, i), 1.0, table.noisy, **guidance))
        bound = dynamic_threshold(i.x, i.pred, table.coefficients, _row(i), 0.9, **guidance)
        found += [bound, *sampler_step_multistep(
            i.x, i.pred, None, *_place(table, i), 0.0, table.noisy, **guidance, threshold=bound
        )]  # fmt: skip
    table = dpm_solver_table(DIFFUSION.schedule, "v", levels).to(i.x.device)
    found += sampler_step_multistep(i.x, i.pred, i.noise, *_place(table, i), 1.0, table.noisy)
    return found + [step for variance in VARIANCES for step in _learned(i, variance)]


def _learned(i: Inputs, variance: Variance) -> list[Tensor]:
    table = ddpm.ancestral_table(DIFFUSION.schedule, "v", ddpm.trailing(50, 10), variance)
    table = table.to(i.x.device)
    guidance: dict[str, Any] = {"uncond": i.other_output, "guidance_scale": i.scale}
    return [
        sampler_step(i.x, i.output, *_place(table, i), 1.0, learned=table.learned),
        sampler_step(i.x, i.output, *_place(table, i), 1.0, learned=table.learned, **guidance),
    ]


def _row(i: Inputs) -> Tensor:
    return torch.tensor(3, device=i.x.device)


def _place(table: StepTable, i: Inputs) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return table.coefficients, table.levels, _row(i), i.key.seed, i.key.sample


def sampling(i: Inputs) -> list[Tensor]:
    return [
        DIFFUSION.p_sample_loop(
            lambda x, t: x / (1 + t[0]), i.x.shape, seed=3, device=i.x.device, steps=20
        )
    ]


OPERATIONS: tuple[Callable[[Inputs], list[Tensor]], ...] = (
    noising,
    losses,
    bounds,
    steps,
    sampling,
)


def compare(device: str) -> int:
    """Number of results compared; raises on the first that differs."""
    compared = 0
    for dtype in DTYPES:
        allowed = tolerance(str(dtype).removeprefix("torch."), "gpu")
        for shape in SHAPES:
            for operation in OPERATIONS:
                pairs = zip(
                    operation(Inputs(shape, dtype, device)),
                    operation(Inputs(shape, dtype, "cpu")),
                    strict=True,
                )
                for number, (there, here) in enumerate(pairs):
                    case = f"{operation.__name__}[{number}] {dtype} {shape}"
                    assert there.device.type == torch.device(device).type, case
                    difference = (there.cpu().double() - here.double()).abs()
                    bound = allowed.atol + allowed.rtol * here.double().abs()
                    assert bool((difference <= bound).all()), f"{case}: {difference.max()}"
                    compared += 1
    return compared


if __name__ == "__main__":
    print(f"{compare(sys.argv[1])} results agree")
