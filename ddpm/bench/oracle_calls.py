"""The NumPy reference in float64, on the same numbers."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm.bench.contender import Result
from ddpm.bench.inputs import SEED, STEPS, VISITED, Inputs, S, T
from ddpm.kernels.streams import Stream
from ddpm.reference import philox
from ddpm.reference.chain import Chain
from ddpm.reference.ddim import ddim_step
from ddpm.reference.forward import q_sample
from ddpm.reference.hybrid import bound_term
from ddpm.reference.objectives import simple_loss
from ddpm.reference.parameterisations import predict_mean, predict_v, predict_x0
from ddpm.reference.sampling import ancestral_step
from ddpm.reference.schedules import linear_schedule
from ddpm.reference.variances import log_interpolated_variance

Array = NDArray[np.float64]


class Oracle:
    """The reference's answers for a batch.

    Args:
        inputs: The batch.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._chain: Chain = linear_schedule(STEPS)
        self._t = inputs.t.cpu().numpy()

    def noising(self) -> Result:
        """Noisy data from the noise that is given."""
        return _result(x_t=self._noisy(self._noise))

    def noising_drawn(self) -> Result:
        """Noisy data from noise that is drawn."""
        return _result(x_t=self._noisy(self._training_noise(drawn=True)))

    def simple(self, prediction: str, output: Tensor, drawn: bool) -> Callable[[], Result]:
        """Noisy data and the mean loss; the reference has no backward pass."""
        given = _array(output)

        def loss() -> Result:
            noise = self._training_noise(drawn)
            x_t = self._noisy(noise)
            target = {"eps": noise, "x0": self._x0}.get(prediction)
            if target is None:
                target = predict_v("eps", noise, x_t, self._chain, self._t)
            return _result(x_t=x_t, loss=simple_loss(target, given).mean())

        return loss

    def hybrid(self, output: Tensor, rate: float, drawn: bool) -> Callable[[], Result]:
        """Noisy data and the mean loss, the bound in nats; the reference has no backward pass."""
        pred, raw = np.split(_array(output), 2, axis=1)
        chain, size = self._chain, self._x0[0].size

        def loss() -> Result:
            noise = self._training_noise(drawn)
            x_t = self._noisy(noise)
            terms = []
            for i, t in enumerate(self._t.tolist()):
                one = slice(i, i + 1)
                mean = predict_mean("eps", pred[one], x_t[one], chain, t, t - 1)
                variance = log_interpolated_variance(chain, t - 1, t, (raw[one] + 1) / 2)
                terms.append(bound_term(self._x0[one], x_t[one], chain, t, mean, variance))
            bound = np.concatenate(terms) / size
            loss = simple_loss(noise, pred) + rate * bound
            return _result(x_t=x_t, loss=loss.mean())

        return loss

    def ddpm(self) -> Result:
        """Samples at the level below T, by an ancestral step with its noise drawn."""
        z = self._drawn(Stream.SAMPLING_NOISE, T)
        moved = ancestral_step(self._chain, T - 1, T, self._x, self._estimate(self._pred), z)
        return _result(x_s=moved)

    def ddim(self) -> Result:
        """Samples at level S, by DDIM without noise."""
        zero = np.zeros_like(self._x)
        moved = ddim_step(self._chain, S, T, self._x, self._estimate(self._pred), zero)
        return _result(x_s=moved)

    def guided(self, scale: float) -> Result:
        """Samples at level S, by DDIM from two predictions."""
        uncond = _array(self._inputs.uncond)
        estimate = self._estimate(uncond + scale * (self._pred - uncond))
        zero = np.zeros_like(self._x)
        return _result(x_s=ddim_step(self._chain, S, T, self._x, estimate, zero))

    def second_order(self) -> Result:
        """Samples at level S, by DDIM from the estimate extrapolated to the middle of the step."""
        before = VISITED[VISITED.index(T) - 1]
        estimate = predict_x0("eps", self._pred, self._x, self._chain, T)
        start, now, end = (self._log_snr(level) for level in (before, T, S))
        ratio = (now - start) / (end - now)
        middle = estimate + (estimate - _array(self._inputs.history)) / (2 * ratio)
        moved = ddim_step(self._chain, S, T, self._x, middle, np.zeros_like(self._x))
        return _result(x_s=moved, x0=estimate)

    def normals(self, step: int, stream: Stream) -> Result:
        """Standard normal numbers of the batch."""
        return _result(z=self._drawn(stream, step))

    @cached_property
    def _x0(self) -> Array:
        return _array(self._inputs.x0)

    @cached_property
    def _noise(self) -> Array:
        return _array(self._inputs.noise)

    @cached_property
    def _x(self) -> Array:
        return _array(self._inputs.x)

    @cached_property
    def _pred(self) -> Array:
        return _array(self._inputs.pred)

    def _noisy(self, noise: Array) -> Array:
        alpha_bar, rest = self._chain.alpha_bar, self._chain.one_minus_alpha_bar
        return q_sample(self._x0, alpha_bar[self._t], noise, rest[self._t])

    def _estimate(self, pred: Array) -> Array:
        return predict_x0("eps", pred, self._x, self._chain, T).clip(-1, 1)

    def _log_snr(self, level: int) -> float:
        odds = self._chain.alpha_bar[level] / self._chain.one_minus_alpha_bar[level]
        return float(np.log(odds))

    def _training_noise(self, drawn: bool) -> Array:
        if not drawn:
            return self._noise
        return self._drawn(Stream.TRAINING_NOISE, int(self._inputs.key.step))

    def _drawn(self, stream: Stream, step: int) -> Array:
        shape = self._inputs.shape
        size = int(np.prod(shape[1:]))
        return philox.normals(SEED, stream, step, np.arange(shape[0]), size).reshape(shape)


def _array(x: Tensor) -> Array:
    return x.detach().cpu().double().numpy()


def _result(**arrays: Any) -> Result:
    return {name: torch.as_tensor(array) for name, array in arrays.items()}
