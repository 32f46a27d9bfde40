"""What other libraries move for the same work, measured once and kept as data.

Their own functions ran on a batch of 8 x 3 x 32 x 32 under a dispatch mode that noted every ATen
operation that touches at least N elements, N those of the batch; the network was a leaf tensor.
Traffic is in units of N: operands that are expanded cost nothing to read, results count in full.
Operations on fewer elements are launches too where their tables live on the card; they are counted
apart. See docs/kernels.md for the versions.
"""

from typing import NamedTuple


class Peer(NamedTuple):
    """What one library does for one task."""

    library: str
    traffic: float
    """In tensors of the size of the data, read or written."""
    launches: int
    """Kernels over at least N elements."""
    small: int | None = None
    """Kernels over fewer, None where they were not counted."""
    note: str = ""
    """What has to be known to compare."""


VERSIONS = {
    "diffusers": "0.40.0.dev0 (58eb52c0)",
    "denoising-diffusion-pytorch": "2.3.1 (faed4db2)",
    "guided-diffusion": "22e0df81; improved-diffusion 1bc7bbbd runs the same operations",
    "pytorch-ddpm": "f804ccbd",
    "score_sde_pytorch": "cb1f359f",
    "k-diffusion": "4601bf08",
    "EDM": "008a4e53",
    "smalldiffusion": "7f607a84",
    "azula": "0.11.1 (bec12b89)",
    "ddim": "e8df66cf",
    "PriorGrad": "8cf4fbcb",
}
"""What was measured."""

_COUNTED = "formula of its pipelines, counted"

TASKS: dict[str, tuple[Peer, ...]] = {
    "training, eps": (
        Peer("smalldiffusion", 13, 6, 3, "variance-exploding form"),
        Peer("diffusers", 15, 7, 7),
        Peer("denoising-diffusion-pytorch", 17, 8, 8),
        Peer("pytorch-ddpm", 17, 8, 6),
        Peer("ddim", 22, 11, 10),
        Peer("azula", 28, 14, 34),
        Peer("k-diffusion", 29, 14, 22),
        Peer("guided-diffusion", 31, 15, 18),
        Peer("PriorGrad", 31, 14, 8),
        Peer("EDM", 33, 16, 28),
    ),
    "training, v": (
        Peer("diffusers", 22, 10, 12),
        Peer("denoising-diffusion-pytorch", 24, 11, 10),
    ),
    "training, score": (Peer("score_sde_pytorch", 37, 19, 29, "continuous, VP"),),
    "training, hybrid": (
        Peer("denoising-diffusion-pytorch", 307.5, 134, 38),
        Peer("guided-diffusion", 349.5, 152, 63),
    ),
    "training, VLB": (Peer("guided-diffusion", 246.5, 112, 51),),
    "step, DDPM": (
        Peer("smalldiffusion", 18, 8, 8),
        Peer("score_sde_pytorch", 20, 10, 18),
        Peer("diffusers", 22, 10, 42),
        Peer("denoising-diffusion-pytorch", 22, 10, 9),
        Peer("pytorch-ddpm", 22, 10, 17),
        Peer("azula", 27, 12, 56),
        Peer("guided-diffusion", 28, 13, 19),
    ),
    "step, DDIM": (
        Peer("diffusers", 16, 7, 25),
        Peer("ddim", 20, 9, 34),
        Peer("azula", 27, 12, 56),
        Peer("denoising-diffusion-pytorch", 29, 13, None),
        Peer("guided-diffusion", 67, 31, 27),
    ),
    "step, guided": (Peer("diffusers", 30, 13, None, f"DDPM and 8N for the guidance, {_COUNTED}"),),
    "step, learned variance": (
        Peer("diffusers", 40, 18, 21),
        Peer("guided-diffusion", 44, 20, 19),
    ),
    "step, multistep": (
        Peer("diffusers", 24, 10, 48, "DPM-Solver++ 2M"),
        Peer("EDM", 96, 26, None, "Heun with two wrappers, float64"),
    ),
}
"""Whole tasks: noising and loss, forward and backward, or one step of a sampler."""

OPS: dict[str, tuple[Peer, ...]] = {
    "q_sample": (Peer("diffusers", 7, 3),),
    "q_sample_drawn": (Peer("diffusers", 8, 4), Peer("guided-diffusion", 8, 4)),
    "q_sample_v": (Peer("diffusers", 14, 6),),
    "q_sample_v[drawn]": (Peer("diffusers", 15, 7),),
    "normal": (Peer("torch.randn", 1, 1),),
    "diffusion_loss[eps]": (Peer("diffusers", 4, 2), Peer("guided-diffusion", 6, 3)),
    "diffusion_loss[v]": (Peer("diffusers", 11, 5, None, "target and loss"),),
    "diffusion_loss_backward[eps]": (
        Peer("diffusers", 3, 1),
        Peer("denoising-diffusion-pytorch", 5, 2),
        Peer("guided-diffusion", 10, 5),
    ),
    "diffusion_loss_backward[v]": (Peer("diffusers", 3, 1),),
    "sampler_step": TASKS["step, DDPM"],
    "sampler_step[not drawn]": TASKS["step, DDIM"],
    "sampler_step[guided]": TASKS["step, guided"],
    "sampler_step[log]": TASKS["step, learned variance"],
    "sampler_step[sigmoid]": TASKS["step, learned variance"],
    "sampler_step_multistep": TASKS["step, multistep"],
}
"""Parts of those tasks that are an op of ours, cut out of the same notes. A peer that draws its
noise first and reads it again has its traffic and its time in other parts of a task: compare tasks
rather than parts."""
