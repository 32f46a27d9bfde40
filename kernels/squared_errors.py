"""The arithmetic of `ddpm.kernels.diffusion_loss` on the CPU, by compiled loops or by torch."""

from collections.abc import Iterable, Iterator
from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.kernels import checks, compiled
from ddpm.kernels.q_sample import drawing
from ddpm.kernels.samples import coefficients, cut, parts

Errors = tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor, bool]
"""What the compiled loops read, see `ddpm.kernels.cpu.squares`."""

PREDICTIONS = ("eps", "x0", "v", "score")
# Elements of a sample summed at once: fewer than those from which torch shares a sum among threads,
# so that the order of summation depends on the size of a sample only.
CHUNK = 16384


class Loss(NamedTuple):
    """Arguments of `diffusion_loss`, in the order of its op."""

    pred: Tensor
    x0: Tensor | None
    noise: Tensor | None
    t: Tensor
    signal: Tensor
    sigma: Tensor
    weight: Tensor
    seed: Tensor | None
    step: Tensor | None
    sample: Tensor | None
    prediction: str


def check_loss(given: Loss) -> None:
    """Check everything that is known before a launch."""
    if given.prediction not in PREDICTIONS:
        raise ValueError(f"prediction is {given.prediction!r}; allowed: {', '.join(PREDICTIONS)}")
    pred, x0, noise = given.pred, given.x0, given.noise
    checks.check_storage("pred", pred)
    for name, x in (("x0", x0), ("noise", noise)):
        if x is not None:
            checks.check_storage(name, x)
            checks.check_shape(name, x, pred.shape)
    if x0 is None and given.prediction in ("x0", "v"):
        raise ValueError(f"x0 is None; allowed for prediction {given.prediction!r}: a tensor")
    checks.check_tables(given.t, given.signal, given.sigma, pred.shape[0])
    checks.check_vector("weight", given.weight, pred.shape[0])
    if noise is None and given.prediction != "x0":
        place = checks.check_drawable(given.seed, given.step, given.sample)
        checks.check_place(*place, pred.shape[0])
    checks.check_same_device(
        pred.device,
        x0=x0,
        noise=noise,
        t=given.t,
        signal=given.signal,
        sigma=given.sigma,
        weight=given.weight,
        seed=given.seed,
        step=given.step,
        sample=given.sample,
    )


def check_gradient(grad: Tensor, given: Loss) -> None:
    """Check everything that is known before a launch, the gradient of the losses included."""
    check_loss(given)
    checks.check_vector("grad", grad, given.pred.shape[0])
    checks.check_same_device(given.pred.device, grad=grad)


def is_plain(given: Loss) -> bool:
    """Whether these are good arguments of the most frequent kind: the quick way to know."""
    pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction = given
    return (
        prediction == "eps"
        and noise is not None
        and x0 is None is seed is step is sample
        and checks.are_alike(pred, noise)
        and checks.are_levels(t, signal, sigma, pred.shape[0])
        and weight.dtype is torch.float32
        and weight.shape == t.shape
        and weight.is_contiguous()
        and weight.is_cpu
        and not weight.requires_grad
        and not noise.requires_grad
    )


def losses(given: Loss, whole: Errors | None = None) -> Tensor:
    """Give the losses for checked arguments, of as many samples at a time as fit a cache.

    Args:
        given: the arguments.
        whole: what `whole_errors` gave, where it has been asked already.
    """
    if whole is not None:
        out = torch.empty_like(given.weight)
        if not _squares().losses(whole, out):
            checks.check_range("t", given.t, given.signal.shape[0])
        return out
    if compiled.ready():
        squares, out = _squares(), torch.zeros_like(given.weight)
        for rows, errors in _errors(given):
            if not squares.losses(errors, cut(out, rows)):
                checks.check_range("t", given.t, given.signal.shape[0])
        return out
    sums = [_sums(cut(given.pred, rows), _target(given, rows)) for rows in parts(given.pred)]
    return torch.cat(sums).mul_(_shares(given)) if sums else torch.zeros_like(given.weight)


def gradient(grad: Tensor, given: Loss, whole: Errors | None = None) -> Tensor:
    """Give the gradient of pred for checked arguments, with grad [B] that of the losses."""
    out = torch.empty_like(given.pred)
    if whole is not None:
        _squares().gradient(whole, grad, out)
        return out
    if compiled.ready():
        squares = _squares()
        for rows, errors in _errors(given):
            part = cut(out, rows)
            wide = part if part.dtype is torch.float32 else torch.empty_like(errors[0])
            if not squares.gradient(errors, cut(grad, rows), wide):
                checks.check_range("t", given.t, given.signal.shape[0])
            if wide is not part:
                part.copy_(wide)
        return out
    for rows in parts(out):
        target = _target(given, rows)
        scale = coefficients(cut(grad * _shares(given), rows), target)
        # The factor 2 of the derivative is in the operation.
        pred = cut(given.pred, rows).float()
        cut(out, rows).copy_(torch.ops.aten.mse_loss_backward(scale, pred, target, 0))
    return out


@cache
def _squares() -> ModuleType:
    from ddpm.kernels.cpu import squares

    return squares


def whole_errors(given: Loss) -> Errors | None:
    """Give what the compiled loops read, where all of it is there in float32."""
    pred, x0, noise, t, signal, sigma, weight, *_, prediction = given
    source = x0 if prediction == "x0" else noise
    clean = x0 if prediction == "v" else None
    if source is not None and compiled.fit(pred, source, clean):
        return pred, source, clean, t, signal, sigma, weight, prediction == "score"
    return None


def _errors(given: Loss) -> Iterable[tuple[slice | None, Errors]]:
    """Give what the compiled loops read, all at once or a few samples at a time."""
    whole = whole_errors(given)
    return _parted_errors(given) if whole is None else ((None, whole),)


def _parted_errors(given: Loss) -> Iterator[tuple[slice | None, Errors]]:
    """Give the same for some samples at a time, whose noise is drawn where it is not given."""
    prediction = given.prediction
    score = prediction == "score"
    source = given.x0 if prediction == "x0" else given.noise
    clean = given.x0 if prediction == "v" else None
    if source is None:
        draw = drawing(given.pred, *checks.check_drawable(given.seed, given.step, given.sample))
    for rows in parts(given.pred):
        pred, t, weight = cut(given.pred, rows).float(), cut(given.t, rows), cut(given.weight, rows)
        x0 = None if clean is None else cut(clean, rows).float()
        z = draw(rows) if source is None else cut(source, rows).float()
        yield rows, (pred, z, x0, t, given.signal, given.sigma, weight, score)


def _target(given: Loss, rows: slice | None) -> Tensor:
    """Give what the predictions of some samples are compared with, float32."""
    t, prediction = cut(given.t, rows), given.prediction
    checks.check_range("t", t, given.signal.shape[0])
    if prediction == "x0":
        assert given.x0 is not None
        return cut(given.x0, rows).float()
    if given.noise is None:
        place = checks.check_drawable(given.seed, given.step, given.sample)
        noise = drawing(given.pred, *place)(rows)
    else:
        noise = cut(given.noise, rows).float()
    if prediction == "eps":
        return noise
    sigma = coefficients(given.sigma[t], noise)
    if prediction == "score":
        return noise * (-1.0 / sigma)
    assert given.x0 is not None
    x0 = cut(given.x0, rows).float()
    return (noise * coefficients(given.signal[t], noise)).sub_(x0 * sigma)


def _sums(pred: Tensor, target: Tensor) -> Tensor:
    """Sum (pred - target)**2 over each sample."""
    squares: Tensor = torch.ops.aten.mse_loss.default(pred.float(), target, 0)
    if squares.numel() <= CHUNK * squares.shape[0]:
        return squares.sum(tuple(range(1, squares.ndim))) if squares.ndim > 1 else squares
    rows = squares.flatten(1)
    total = rows[:, :CHUNK].sum(1)
    for first in range(CHUNK, rows.shape[1], CHUNK):
        total = total + rows[:, first : first + CHUNK].sum(1)
    return total


def _shares(given: Loss) -> Tensor:
    """Give weight over the number of elements, the factor of each sample's sum."""
    return given.weight / max(1, given.pred.numel() // max(1, given.pred.shape[0]))
