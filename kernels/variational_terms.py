"""The arithmetic of `ddpm.kernels.variational_loss` on the CPU, by compiled loops or by torch.

Torch works on whole samples, a few of them at a time, each result in a buffer that is used again.
Samples at level 1, whose term is the decoder's, are taken out and done in float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import ModuleType

import torch
from torch import Tensor

from ddpm.kernels import compiled
from ddpm.kernels.exponential import HIGHEST, exponential
from ddpm.kernels.log_normal_cdf import Interval, log_interval
from ddpm.kernels.philox import normals
from ddpm.kernels.squared_errors import CHUNK
from ddpm.kernels.streams import Stream

# Elements worked on at a time: the buffers of a block stay in a 2 MiB cache.
BLOCK = 65536
# Elements of the decoder's term at a time, whose many float64 numbers get new memory each.
DECODER_BLOCK = 16384
# Values at least this far from 0 are the outermost grey levels: rounding moves them by less, and
# the next of 65,536 levels is four times as far away.
OUTERMOST = 1.0 - 2.0**-17
# Below this log ratio every loss overflows float32, or is 0 to all its digits.
SMALLEST_LOG_RATIO = -200.0
# The sigmoid of this is a normal float64, whose logarithm is below that.
SMALLEST_LOGIT = -600.0


@dataclass(frozen=True)
class Terms:
    """Arguments of the op that the terms of the bound depend on; see `variational_loss`."""

    output: Tensor
    x0: Tensor
    noise: Tensor | None
    t: Tensor
    table: Tensor
    seed: Tensor | None
    step: Tensor | None
    sample: Tensor | None
    prediction: str
    learned: str

    @property
    def size(self) -> int:
        """Elements of a sample of x0."""
        return self.x0.numel() // max(1, self.x0.shape[0])

    @property
    def predicted(self) -> Tensor:
        """The prediction, [B, size]."""
        return self.output.view(-1, 2, self.size)[:, 0]

    @property
    def raw(self) -> Tensor:
        """What the network says of the variance, [B, size]."""
        return self.output.view(-1, 2, self.size)[:, 1]

    def blocks(self) -> Iterator[tuple[slice, "Terms"]]:
        """The same terms, a few samples at a time."""
        height = max(1, BLOCK // self.size)
        for first in range(0, self.x0.shape[0], height):
            rows = slice(first, first + height)
            yield rows, self.at(rows)

    def at(self, rows: slice | Tensor) -> "Terms":
        """The terms of some of the samples."""
        step = self.step if self.step is None or self.step.ndim == 0 else self.step[rows]
        noise, sample = (x if x is None else x[rows] for x in (self.noise, self.sample))
        return replace(
            self, output=self.output[rows], x0=self.x0[rows], noise=noise, t=self.t[rows],
            step=step, sample=sample,
        )  # fmt: skip

    @cached_property
    def columns(self) -> tuple[Tensor, ...]:
        """The six numbers of each sample's level, each [B, 1]."""
        return self.table[self.t].unsqueeze(2).unbind(1)

    def error(self, out: Tensor) -> Tensor:
        """Give target - prediction, float32 [B, size], in out."""
        signal, sigma, *_ = self.columns
        if self.prediction == "x0":
            return _difference(self.x0.view(-1, self.size), self.predicted, out)
        noise = self.eps()
        if self.prediction == "eps":
            return _difference(noise, self.predicted, out)
        if self.prediction == "score":
            return torch.mul(noise, -1.0 / sigma, out=out).sub_(self.predicted)
        torch.mul(noise, signal, out=out)
        return out.sub_(self.x0.view(-1, self.size) * sigma).sub_(self.predicted)

    def eps(self) -> Tensor:
        """The noise, given or drawn, [B, size]."""
        if self.noise is not None:
            return self.noise.view(-1, self.size)
        assert self.seed is not None
        assert self.step is not None
        assert self.sample is not None
        return normals(self.seed, self.step, self.sample, Stream.TRAINING_NOISE, self.size)

    def inverse_ratio(self, out: Tensor, negative_log: Tensor | None) -> Tensor | None:
        """Give s2 / variance, float32 [B, size], and its logarithm.

        Args:
            out: receives the ratio.
            negative_log: receives its logarithm, or None where that is not needed.

        Returns:
            For learned "sigmoid" the sigmoid of raw, of which the ratio is a function.
        """
        *_, d0, d1, _ = self.columns
        if self.learned == "log":
            exponent = torch.mul(self.raw, -d1, out=out if negative_log is None else negative_log)
            # What counts as HIGHEST in the ratio does so in its logarithm.
            out.copy_(exponential(exponent.sub_(d0).clamp_(max=HIGHEST)))
            return None
        share = torch.mul(self.raw, -1.0, out=torch.empty_like(out))
        torch.exp(share, out=share).add_(1.0).reciprocal_()
        torch.mul(share, d1, out=out).add_(d0).reciprocal_()
        if negative_log is not None:
            torch.log(out, out=negative_log)
        return share

    def decoder(self, error: Tensor) -> tuple[Interval, tuple[Tensor, ...]]:
        """The decoder's term at level 1.

        Args:
            error: target - prediction, float32 [B, size].

        Returns:
            The term of each element with its derivatives, and what chains them to the inputs:
            centre, half, the derivative of centre by error and that of the log ratio by raw, all
            float64.
        """
        _, _, root, d0, d1, half = (column.double() for column in self.columns)
        raw, x0 = self.raw.double(), self.x0.view(-1, self.size).float()
        if self.learned == "log":
            log_ratio, slope = raw * d1 + d0, d1
        else:
            share = torch.exp(-raw.clamp(min=SMALLEST_LOGIT)).add_(1.0).reciprocal_()
            ratio = share * d1 + d0
            log_ratio, slope = torch.log(ratio), d1 * share * (1.0 - share) / ratio
        scale = torch.exp(log_ratio.clamp(min=SMALLEST_LOG_RATIO) * -0.5)
        gain = root * scale
        centre, half = gain * error.double(), half * scale
        term = log_interval(centre, half, x0 <= -OUTERMOST, x0 >= OUTERMOST)
        return term, (centre, half, gain, slope)


def means(terms: Terms) -> tuple[Tensor, Tensor]:
    """Mean squared error and mean term of the bound of each sample, float32 [B]."""
    simple, bound = (torch.zeros(len(terms.t)) for _ in range(2))
    if terms.x0.numel() == 0:
        return simple, bound
    write = _loops().means if _compiled(terms) else _means
    found = write(terms, simple, bound)
    for places, block in _at_level_one(terms) if found else ():
        error = block.error(torch.empty(len(block.t), terms.size))
        bound[places] = _sums(block.decoder(error)[0].nats.float()).div_(terms.size)
    return simple, bound


def _means(terms: Terms, simple: Tensor, bound: Tensor) -> bool:
    """Write the means, those of the bound above level 1 alone; whether any sample is at it."""
    buffers = _buffers(terms, 3)
    for rows, block in terms.blocks():
        squares, inverse, log = (buffer[: len(block.t)] for buffer in buffers)
        error = block.error(squares)
        torch.mul(error, error, out=squares)
        simple[rows] = _sums(squares)
        block.inverse_ratio(inverse, log)
        scaled = _sums(squares.mul_(inverse))
        root = block.columns[2].squeeze(1)
        # What is 1 at equality is subtracted first, so that the small rest keeps its digits.
        bound[rows] = (root * root * scaled + _sums(inverse.sub_(1.0).sub_(log))) * 0.5
    simple.div_(terms.size)
    bound.div_(terms.size)
    return True


def gradients(terms: Terms, for_simple: Tensor, for_bound: Tensor, detach_mean: bool) -> Tensor:
    """Gradient of the output, like the output.

    Args:
        terms: the arguments of the op.
        for_simple: float32 [B], gradient of each mean squared error.
        for_bound: float32 [B], gradient of each mean term of the bound.
        detach_mean: whether the term of the bound treats the prediction as a constant.
    """
    result = torch.empty_like(terms.output)
    if result.numel() == 0:
        return result
    write = _loops().gradients if _compiled(terms) else _gradients
    if write(terms, for_simple, for_bound, detach_mean, result):
        _level_one_gradients(terms, for_simple, for_bound, detach_mean, result)
    return result


def _compiled(terms: Terms) -> bool:
    return terms.learned == "log" and compiled.ready()


@cache
def _loops() -> ModuleType:
    from ddpm.kernels.cpu import bound

    return bound


def _gradients(
    terms: Terms, for_simple: Tensor, for_bound: Tensor, detach_mean: bool, result: Tensor
) -> bool:
    """Write the gradients above level 1; whether any sample is at it."""
    minus_simple = (for_simple * (-2.0 / terms.size)).unsqueeze(1)
    each = (for_bound * (1.0 / terms.size)).unsqueeze(1)
    out, buffers = replace(terms, output=result), _buffers(terms, 3)
    for rows, block in terms.blocks():
        parts = [buffer[: len(block.t)] for buffer in buffers]
        _block_gradients(block, out.at(rows), minus_simple[rows], each[rows], detach_mean, parts)
    return True


def _level_one_gradients(
    terms: Terms, for_simple: Tensor, for_bound: Tensor, detach_mean: bool, result: Tensor
) -> None:
    """Write the gradients of samples at level 1."""
    out = replace(terms, output=result)
    for places, block in _at_level_one(terms):
        minus_simple = (for_simple[places] * (-2.0 / terms.size)).unsqueeze(1)
        each = (for_bound[places] * (1.0 / terms.size)).unsqueeze(1)
        error = block.error(torch.empty(len(block.t), terms.size))
        term, (centre, half, gain, slope) = block.decoder(error)
        for_pred = minus_simple * error
        if not detach_mean:
            for_pred.sub_(each * (gain * term.by_centre).float())
        by_ratio = (centre * term.by_centre + half * term.by_half) * -0.5
        out.predicted[places] = for_pred.to(result.dtype)
        out.raw[places] = (each * (slope * by_ratio).float()).to(result.dtype)


def _block_gradients(
    block: Terms,
    out: Terms,
    minus_simple: Tensor,
    each: Tensor,
    detach_mean: bool,
    buffers: list[Tensor],
) -> None:
    """Write the gradients of samples above level 1; `out` holds them in place of the output."""
    error, inverse, excess = buffers
    _, _, root, _, d1, _ = block.columns
    square = root * root
    block.error(error)
    share = block.inverse_ratio(inverse, None)
    torch.mul(error, error, out=excess).mul_(square).add_(1.0).mul_(inverse).sub_(1.0)
    minus_half = each * -0.5
    if share is None:
        torch.mul(excess, minus_half * d1, out=out.raw)
    else:
        slope = (1.0 - share).mul_(share).mul_(inverse)
        torch.mul(excess.mul_(slope), minus_half * d1, out=out.raw)
    if detach_mean:
        torch.mul(error, minus_simple, out=out.predicted)
    else:
        inverse.mul_(-each * square).add_(minus_simple)
        torch.mul(error, inverse, out=out.predicted)


def _at_level_one(terms: Terms) -> Iterator[tuple[Tensor, Terms]]:
    """Samples at level 1 with their places, a few at a time."""
    found = (terms.t == 1).nonzero().squeeze(1)
    for rows in torch.split(found, max(1, DECODER_BLOCK // terms.size)) if len(found) else ():
        yield rows, terms.at(rows)


def _buffers(terms: Terms, count: int) -> tuple[Tensor, ...]:
    height = min(len(terms.t), max(1, BLOCK // terms.size))
    return torch.empty(count, height, terms.size).unbind(0)


def _difference(target: Tensor, pred: Tensor, out: Tensor) -> Tensor:
    """Give target - pred in float32, in out."""
    if torch.float32 in (target.dtype, pred.dtype):
        return torch.sub(target, pred, out=out)
    return out.copy_(target).sub_(pred)


def _sums(x: Tensor) -> Tensor:
    """Sums of the rows; chunks keep their order the same whatever the number of threads."""
    if x.shape[1] <= CHUNK:
        return x.sum(1)
    return torch.stack([chunk.sum(1) for chunk in torch.split(x, CHUNK, 1)], 1).sum(1)
