"""Arguments of a sampler's step, and the step of one sample at a time in float64."""

from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from ddpm.kernels.affine_step import COLUMNS, Step
from ddpm.kernels.gpu import sampler_step as gpu
from ddpm.kernels.streams import Stream
from ddpm.reference import philox
from tests.kernels.batches import Array, exact, make_batch, poisoned

ROWS = 6
LEVELS = torch.tensor([1000, 999, 500, 20, 3, 1])


def make_step(
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    many: bool = False,
    clip: float = 0.0,
    draw: bool = True,
    pred_dtype: torch.dtype | None = None,
    *,
    guided: bool = False,
    thresholded: bool = False,
    learned: str = "none",
    history: bool = False,
) -> dict[str, Any]:
    """Fill the arguments from a seed; many gives each sample its own row and guidance."""
    batch = make_batch(shape, dtype, seed, pred_dtype=pred_dtype)
    rng = np.random.default_rng(abs(seed) + 1)
    wide = shape if learned == "none" else (shape[0], 2 * shape[1], *shape[2:])

    def draws(kind: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape)).to(kind)

    table = torch.from_numpy(rng.uniform(-1.5, 1.5, (ROWS, len(COLUMNS)))).float()
    # Variances are positive, and without history there is nothing to weigh.
    table[:, COLUMNS.index("v0")] = table[:, COLUMNS.index("v0")].abs()
    table[:, COLUMNS.index("v1")] = table[:, COLUMNS.index("v1")].abs()
    if not history:
        table[:, COLUMNS.index("c")] = 0.0
    each = (shape[0],) if many else ()
    step = {
        "x": batch.x0,
        "pred": draws(pred_dtype or dtype, wide),
        "table": table,
        "levels": LEVELS,
        "row": torch.from_numpy(np.asarray(rng.integers(0, ROWS, each))),
        "seed": batch.seed,
        "sample": batch.sample,
        "clip": clip,
        "draw": draw,
        "uncond": draws(pred_dtype or dtype, wide) if guided else None,
        "guidance_scale": torch.from_numpy(np.asarray(rng.uniform(-1, 3, each))).float()
        if guided
        else None,
        "threshold": torch.from_numpy(rng.uniform(0.5, 2, shape[0])).float()
        if thresholded
        else None,
        "learned": learned,
    }
    return {**step, "history": draws(dtype, shape)} if history else step


def as_step(step: dict[str, Any]) -> Step:
    """The arguments in the order of the op with history."""
    return Step(**{"history": None, **step})


def interpreted(step: dict[str, Any], keep: bool = False) -> tuple[Tensor, ...]:
    """The outputs of the Triton kernel, into poisoned memory."""
    with poisoned():
        return gpu.step(as_step(step), keep)


def truth(step: dict[str, Any]) -> tuple[Array, Array]:
    """x_s and the estimate of x_0 after clipping."""
    x, table = exact(step["x"]), exact(step["table"])
    batch = len(x)
    rows = step["row"].expand(batch).tolist()
    scales = None if step["uncond"] is None else exact(step["guidance_scale"].expand(batch))
    out, clean = np.empty_like(x), np.empty_like(x)
    for i, row in enumerate(rows):
        k_x, k_pred, a, b, c, sd, v0, v1 = table[row]
        # What is guided is the difference: w (cond - uncond) on top of uncond.
        output = exact(step["pred"])[i]
        prediction, raw = output, output
        if step["learned"] != "none":
            prediction, raw = np.split(output, 2)
        if scales is not None:
            other = exact(step["uncond"])[i][: len(prediction)] if x.ndim > 1 else 0.0
            prediction = scales[i] * prediction + (1 - scales[i]) * other
        estimate = k_x * x[i] + k_pred * prediction
        if step["threshold"] is not None:
            limit = float(step["threshold"][i])
            estimate = np.minimum(np.maximum(estimate, -limit), limit) / limit
        elif step["clip"]:
            estimate = np.clip(estimate, -step["clip"], step["clip"])
        clean[i] = estimate
        out[i] = a * estimate + b * x[i]
        if step.get("history") is not None:
            out[i] += c * exact(step["history"])[i]
        if step["draw"]:
            level, sample = int(LEVELS[row]), step["sample"][i : i + 1].numpy()
            z = philox.normals(int(step["seed"]), Stream.SAMPLING_NOISE, level, sample, x[i].size)
            deviation: Any = sd
            if step["learned"] == "log":
                deviation = sd * np.exp(v0 + v1 * raw)
            elif step["learned"] == "sigmoid":
                deviation = sd * np.sqrt(v0 + v1 * expit(raw))
            out[i] += deviation * z.reshape(x[i].shape)
    return out, clean
