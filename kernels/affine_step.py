"""The arguments of a sampler's step and the checks made before it is launched."""

from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.kernels import checks

COLUMNS = ("k_x", "k_pred", "a", "b", "c", "sd", "v0", "v1")
LEARNED = ("none", "log", "sigmoid")


class Step(NamedTuple):
    """Arguments of `ddpm.kernels.sampler_step.sampler_step_multistep`, in the order of its op."""

    x: Tensor
    pred: Tensor
    history: Tensor | None
    table: Tensor
    levels: Tensor
    row: Tensor
    seed: Tensor
    sample: Tensor
    clip: float
    draw: bool
    uncond: Tensor | None
    guidance_scale: Tensor | None
    threshold: Tensor | None
    learned: str


def check_step(step: Step) -> None:
    """Check everything that is known before a launch."""
    if _is_plain(step):
        return
    x = step.x
    check_estimate(
        x, step.pred, step.table, step.row, step.uncond, step.guidance_scale, step.learned
    )
    checks.check_index("levels", step.levels, (step.table.shape[0],))
    checks.check_place(step.seed, step.row, step.sample, x.shape[0], step_name="row")
    if step.history is not None:
        checks.check_storage("history", step.history)
        checks.check_shape("history", step.history, x.shape)
    if step.threshold is not None:
        checks.check_vector("threshold", step.threshold, x.shape[0])
    checks.check_same_device(
        x.device,
        history=step.history,
        levels=step.levels,
        seed=step.seed,
        sample=step.sample,
        threshold=step.threshold,
    )
    if not 0.0 <= step.clip < float("inf"):
        raise ValueError(
            f"clip is {step.clip}; allowed: 0 (no clipping) or a positive finite number"
        )


def _is_plain(step: Step) -> bool:
    """Whether a step of the CPU has only what any step has, all of it right: the quick way."""
    x, table, row, sample = step.x, step.table, step.row, step.sample
    return (
        step.uncond is None
        and step.guidance_scale is None
        and step.threshold is None
        and step.learned == "none"
        and isinstance(step.pred, Tensor)
        and checks.are_alike(x, step.pred)
        and (step.history is None or checks.are_alike(x, step.history))
        and checks.are_places(step.seed, row, sample, x.shape[0])
        and step.levels.dtype is torch.int64
        and table.dtype is torch.float32
        and table.ndim == 2
        and table.shape[0] > 0
        and table.shape[1] == len(COLUMNS)
        and step.levels.shape == table.shape[:1]
        and table.is_contiguous()
        and step.levels.is_contiguous()
        and table.is_cpu
        and step.levels.is_cpu
        and 0.0 <= step.clip < float("inf")
    )


def check_estimate(
    x: Tensor,
    pred: Tensor,
    table: Tensor,
    row: Tensor,
    uncond: Tensor | None,
    guidance_scale: Tensor | None,
    learned: str,
) -> None:
    """Check what the estimate of x_0 is made of."""
    checks.check_storage("x", x)
    if learned not in LEARNED:
        raise ValueError(f"learned is {learned!r}; allowed: {', '.join(map(repr, LEARNED))}")
    if learned != "none" and x.ndim < 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; allowed with learned: [B, C, ...]")
    _check_output("pred", pred, x, learned)
    checks.check_dtype("table", table, (torch.float32,))
    if table.ndim != 2 or table.shape[0] == 0 or table.shape[1] != len(COLUMNS):
        raise ValueError(
            f"table has shape {tuple(table.shape)}; allowed: [K, {len(COLUMNS)}] with K >= 1"
        )
    checks.check_contiguous("table", table)
    checks.check_index("row", row, (), (x.shape[0],))
    if uncond is not None and guidance_scale is not None:
        _check_output("uncond", uncond, x, learned)
        checks.check_dtype("guidance_scale", guidance_scale, (torch.float32,))
        checks.check_shape("guidance_scale", guidance_scale, (), (x.shape[0],))
        checks.check_contiguous("guidance_scale", guidance_scale)
    elif uncond is not None or guidance_scale is not None:
        missing = "uncond" if uncond is None else "guidance_scale"
        raise ValueError(f"{missing} is None; allowed: uncond and guidance_scale, both or neither")
    checks.check_same_device(
        x.device, pred=pred, table=table, row=row, uncond=uncond, guidance_scale=guidance_scale
    )


def _check_output(name: str, output: Tensor, x: Tensor, learned: str) -> None:
    """Require an output of the network: like x, or with twice its channels where learned."""
    checks.check_storage(name, output)
    channels = x.shape if learned == "none" else (x.shape[0], 2 * x.shape[1], *x.shape[2:])
    checks.check_shape(name, output, channels)


def check_no_gradient(step: Step) -> None:
    """Refuse gradients through arguments and forms of the step that have none.

    Raises:
        ValueError: an argument requires a gradient that is not defined.
    """
    checks.check_no_grad(
        table=step.table, guidance_scale=step.guidance_scale, threshold=step.threshold
    )
    if step.threshold is not None or step.learned != "none":
        refuse_gradients(
            f"with learned = {step.learned!r}" if step.threshold is None else "with threshold",
            x=step.x,
            pred=step.pred,
            uncond=step.uncond,
            history=step.history,
        )


def refuse_gradients(where: str, **tensors: Tensor | None) -> None:
    """Refuse tensors that autograd would follow."""
    for name, x in tensors.items():
        if x is not None and x.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{name} has requires_grad=True; allowed {where}: False, "
                "or a call under torch.no_grad()"
            )
