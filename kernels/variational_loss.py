"""Simple loss and variational bound of a network that predicts the variance of its steps too.

At a level t >= 2 the bound's term is the divergence between the true and the estimated step, with
D = log(variance / s2), s2 the variance of the true one, and e = target - prediction,

    KL = (D + exp(-D) (1 + root^2 e^2) - 1) / 2,

and at t = 1 minus the log probability of the data's grey level under a Gaussian around the
estimated x_0. Everything that depends on the level is a row of a table; the noise is drawn again
where it is not given.
"""

from typing import Any

import torch
from torch import Tensor

from ddpm.kernels import checks
from ddpm.kernels.batching import register
from ddpm.kernels.variational_terms import Terms, gradients, means

PREDICTIONS = ("eps", "x0", "v", "score")
LEARNED = ("log", "sigmoid")
COLUMNS = ("signal", "sigma", "root", "d0", "d1", "half")


def variational_loss(
    output: Tensor,
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    table: Tensor,
    weight: Tensor,
    bound_weight: Tensor,
    seed: Tensor | None = None,
    step: Tensor | None = None,
    sample: Tensor | None = None,
    prediction: str = "eps",
    learned: str = "log",
    detach_mean: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted sum of simple loss and bound, one number a sample.  G-45, G-44, T-fn24, L-2.10.

    The hybrid loss has weight 1 and bound_weight 0.001 T, the bound alone 0 and T (G-45-T).

    Args:
        output: float32, float16 or bfloat16 [B, 2 C, ...], contiguous: the prediction, then what
            the network says of the variance, raw.
        x0: [B, C, ...], clean data, any of these dtypes, contiguous. At level 1 on the grey levels
            of the table, from -1 to 1.
        noise: shape of x0, or None to draw it; not read for prediction x0.
        t: int64 [B], levels in 1..T; on a GPU a level outside yields NaN.
        table: float32 [T + 1, 6], rows (signal, sigma, root, d0, d1, half) of
            `ddpm.variational.variational_table`.
        weight: float32 [B], factor of the simple loss.
        bound_weight: float32 [B], factor of the bound's term.
        seed: int64 [], any value; with step and sample required where noise is drawn.
        step: int64 [] or [B], in 0..2**32 - 1.
        sample: int64 [B], global sample indices in 0..2**56 - 1.
        prediction: "eps", "x0", "v" or "score", what the first half of output estimates.
        learned: "log", D = d0 + d1 raw, or "sigmoid", D = log(d0 + d1 sigmoid(raw)).
        detach_mean: whether the bound trains the variance alone, its prediction a constant.

    Returns:
        Three float32 [B]: the loss, weight times simple plus bound_weight times bound; the mean
        squared error of the prediction; and the bound's term in nats per dimension. All are 0 for
        samples without elements. The loss is differentiable in output, the other two are not.

    Raises:
        ValueError: a dtype, shape, device, level or name is not allowed, an argument that is
            needed is None, or another argument than output requires a gradient.
    """
    checks.check_no_grad(x0=x0, noise=noise, table=table, weight=weight, bound_weight=bound_weight)
    result: tuple[Tensor, Tensor, Tensor] = _call(
        output, x0, noise, t, table, weight, bound_weight, seed, step, sample,
        prediction, learned, detach_mean,
    )  # fmt: skip
    return result


def check_loss(
    output: Tensor,
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    table: Tensor,
    weight: Tensor,
    bound_weight: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
    prediction: str,
    learned: str,
) -> None:
    """Check everything that is known before a launch."""
    for name, value, allowed in (
        ("prediction", prediction, PREDICTIONS),
        ("learned", learned, LEARNED),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
    checks.check_storage("output", output)
    checks.check_storage("x0", x0)
    if x0.ndim < 2:
        raise ValueError(f"x0 has shape {tuple(x0.shape)}; allowed: [B, C, ...]")
    batch, channels, *rest = x0.shape
    checks.check_shape("output", output, (batch, 2 * channels, *rest))
    if noise is not None:
        checks.check_storage("noise", noise)
        checks.check_shape("noise", noise, x0.shape)
    elif prediction != "x0":
        if seed is None or step is None or sample is None:
            missing = "seed" if seed is None else "step" if step is None else "sample"
            raise ValueError(f"{missing} is None; allowed where noise is None: a tensor")
        checks.check_place(seed, step, sample, batch)
    _check_table(t, table, batch)
    checks.check_vector("weight", weight, batch)
    checks.check_vector("bound_weight", bound_weight, batch)
    checks.check_same_device(
        output.device, x0=x0, noise=noise, t=t, table=table, weight=weight,
        bound_weight=bound_weight, seed=seed, step=step, sample=sample,
    )  # fmt: skip


def _check_table(t: Tensor, table: Tensor, batch: int) -> None:
    checks.check_index("t", t, (batch,))
    checks.check_dtype("table", table, (torch.float32,))
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] != len(COLUMNS):
        raise ValueError(f"table has shape {tuple(table.shape)}; allowed: [T + 1, 6] with T >= 1")
    checks.check_contiguous("table", table)


def _check_levels(t: Tensor, levels: int) -> None:
    """Require levels 1..T of a tensor on the CPU."""
    if t.numel():
        low, high = (int(bound) for bound in t.aminmax())
        if low < 1 or high >= levels:
            value = low if low < 1 else high
            raise ValueError(f"t contains {value}; allowed: 1..{levels - 1}")


@torch.library.custom_op("ddpm::variational_loss", mutates_args=(), device_types="cpu")
def _variational_loss(
    output: Tensor,
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    table: Tensor,
    weight: Tensor,
    bound_weight: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
    prediction: str,
    learned: str,
    detach_mean: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    del detach_mean
    check_loss(
        output, x0, noise, t, table, weight, bound_weight, seed, step, sample, prediction, learned
    )
    _check_levels(t, table.shape[0])
    simple, bound = means(
        Terms(output, x0, noise, t, table, seed, step, sample, prediction, learned)
    )
    return weight * simple + bound_weight * bound, simple, bound


@_variational_loss.register_kernel("cuda")
def _(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    from ddpm.kernels.gpu import variational_loss as gpu

    # The last argument is detach_mean, which concerns the gradient alone.
    check_loss(*inputs[:-1])
    return gpu.variational_loss(*inputs[:-1])


@_variational_loss.register_fake
def _(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    check_loss(*inputs[:-1])
    weight = inputs[5]
    return torch.empty_like(weight), torch.empty_like(weight), torch.empty_like(weight)


@torch.library.custom_op("ddpm::variational_loss_backward", mutates_args=(), device_types="cpu")
def _variational_loss_backward(
    grad: Tensor,
    output: Tensor,
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    table: Tensor,
    weight: Tensor,
    bound_weight: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
    prediction: str,
    learned: str,
    detach_mean: bool,
) -> Tensor:
    check_loss(
        output, x0, noise, t, table, weight, bound_weight, seed, step, sample, prediction, learned
    )
    checks.check_incoming(grad, output)
    _check_levels(t, table.shape[0])
    terms = Terms(output, x0, noise, t, table, seed, step, sample, prediction, learned)
    return gradients(terms, grad * weight, grad * bound_weight, detach_mean)


@_variational_loss_backward.register_kernel("cuda")
def _(grad: Tensor, *inputs: Any) -> Tensor:
    from ddpm.kernels.gpu import variational_loss as gpu

    check_loss(*inputs[:-1])
    checks.check_incoming(grad, inputs[0])
    return gpu.variational_loss_backward(grad, *inputs)


@_variational_loss_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> Tensor:
    check_loss(*inputs[:-1])
    checks.check_incoming(grad, inputs[0])
    return torch.empty_like(inputs[0])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, x0, noise, _, table, weight, bound_weight, *_ = inputs
    checks.check_no_grad(x0=x0, noise=noise, table=table, weight=weight, bound_weight=bound_weight)
    ctx.options = inputs[-3:]
    ctx.save_for_backward(*inputs[:-3])
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, grad: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
    del others
    saved = ctx.saved_tensors
    for_output = _backward_call(grad.contiguous(), *saved, *ctx.options)
    return (for_output, *(None,) * (len(saved) + len(ctx.options) - 1))


_backward_call = register(_variational_loss_backward)
_call = register(_variational_loss, _setup, _backward)
