"""Run every operation on a device and on the CPU and compare; a script, so that kernels compile.

The tests set TRITON_INTERPRET, under which nothing is compiled; this runs in a process without it:

    python -m tests.devices.compare cuda
"""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

import ddpm
from ddpm.kernels.diffusion_loss import diffusion_loss
from ddpm.kernels.normal import normal
from ddpm.kernels.q_sample import q_sample, q_sample_drawn
from ddpm.kernels.sampler_step import sampler_step
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from tests.tolerances import tolerance

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SHAPES = ((3, 1, 7, 5), (2, 3, 32, 32), (5, 4097), (2, 20_000), (1, 1))
DIFFUSION = ddpm.GaussianDiffusion(ddpm.Schedule.log_snr_linear(50))


class Inputs:
    """The same numbers on any device."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
        batch = shape[0]
        key = Key.of(-5, range(2**33, 2**33 + batch), step=7)

        def drawn(stream: int) -> Tensor:
            value = normal(key.seed, key.step, key.sample, stream, list(shape[1:]), torch.float32)
            return value.to(dtype).to(device)

        self.x, self.noise, self.pred = drawn(200), drawn(201), drawn(202)
        self.t = (torch.arange(batch) * 13 % 50 + 1).to(device)
        self.weight = torch.linspace(0.5, 2, batch, device=device)
        self.signal, self.sigma = DIFFUSION.tables(torch.device(device))
        self.key = Key.of(-5, range(2**33, 2**33 + batch), step=7, device=device)


def noising(i: Inputs) -> list[Tensor]:
    place = (i.key.seed, i.key.step, i.key.sample)
    return [
        q_sample(i.x, i.noise, i.t, i.signal, i.sigma),
        q_sample_drawn(i.x, i.t, i.signal, i.sigma, *place),
        normal(*place, Stream.INITIAL_NOISE, list(i.x.shape[1:]), i.x.dtype),
    ]


def losses(i: Inputs) -> list[Tensor]:
    found = []
    for prediction in ("eps", "x0", "v"):
        for noise in (i.noise, None):
            pred = i.pred.clone().requires_grad_()
            loss = diffusion_loss(
                pred, i.x, noise, i.t, i.signal, i.sigma, i.weight,
                i.key.seed, i.key.step, i.key.sample, prediction,
            )  # fmt: skip
            (gradient,) = torch.autograd.grad(loss.sum(), pred)
            found += [loss.detach(), gradient * pred[0].numel()]
    return found


def steps(i: Inputs) -> list[Tensor]:
    found = []
    for eta in (0.0, 1.0):
        table = ddpm.ddim_table(DIFFUSION.schedule, "eps", ddpm.trailing(50, 10), eta)
        table = table.to(i.x.device)
        row = torch.tensor(3, device=i.x.device)
        seed, sample = i.key.seed, i.key.sample
        for clip in (0.0, 1.0):
            found.append(
                sampler_step(
                    i.x,
                    i.pred,
                    table.coefficients,
                    table.levels,
                    row,
                    seed,
                    sample,
                    clip,
                    table.noisy,
                )
            )
    return found


def sampling(i: Inputs) -> list[Tensor]:
    return [
        DIFFUSION.p_sample_loop(
            lambda x, t: x / (1 + t[0]), i.x.shape, seed=3, device=i.x.device, steps=20
        )
    ]


OPERATIONS: tuple[Callable[[Inputs], list[Tensor]], ...] = (noising, losses, steps, sampling)


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
