"""Arguments of the variational loss, and its values by the reference in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from ddpm.kernels.streams import Stream
from ddpm.kernels.variational_loss import LEARNED, PREDICTIONS
from ddpm.reference import hybrid, objectives, philox, variances
from ddpm.reference.chain import Chain
from ddpm.reference.decoder import grey_levels
from ddpm.reference.forward import q_sample
from ddpm.reference.parameterisations import predict_mean
from ddpm.schedule import Schedule
from ddpm.variational import variational_table
from tests.kernels.batches import DTYPES, SIZES, Array, exact
from tests.kernels.test_philox import SEEDS

BETAS = np.array([0.02, 0.03, 0.05, 0.1, 0.3, 0.9])
# The values of these many grey levels are exact in every storage type.
COUNTS = (2, 3, 5, 17)


@dataclass(frozen=True)
class Example:
    """Arguments of the op, and what the reference needs to know beside them."""

    output: Tensor
    x0: Tensor
    noise: Tensor
    t: Tensor
    weight: Tensor
    bound_weight: Tensor
    seed: Tensor
    step: Tensor
    sample: Tensor
    prediction: str
    learned: str
    detach_mean: bool
    drawn: bool
    levels: int
    betas: Array

    @property
    def arguments(self) -> tuple[Any, ...]:
        schedule = Schedule.from_betas(self.betas.tolist())
        table = variational_table(schedule, self.prediction, self.learned, self.levels)  # type: ignore[arg-type]
        needed = self.drawn and self.prediction != "x0"
        place = (self.seed, self.step, self.sample) if needed else (None, None, None)
        noise = None if self.drawn else self.noise
        return (
            self.output, self.x0, noise, self.t, table.float(), self.weight, self.bound_weight,
            *place, self.prediction, self.learned, self.detach_mean,
        )  # fmt: skip

    @property
    def exact_noise(self) -> Array:
        if not self.drawn:
            return exact(self.noise)
        size = self.x0[0].numel() if len(self.x0) else 0
        stream, sample = Stream.TRAINING_NOISE, self.sample.numpy()
        z = philox.normals(int(self.seed), stream, int(self.step), sample, size)
        return np.asarray(z.reshape(self.x0.shape))


def make(
    shape: tuple[int, ...],
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    output_dtype: torch.dtype = torch.float32,
    prediction: str = "eps",
    learned: str = "log",
    detach_mean: bool = True,
    drawn: bool = False,
    levels: int = 17,
    betas: Array = BETAS,
) -> Example:
    rng = np.random.default_rng(abs(seed))
    batch, channels, *rest = shape
    first = int(rng.integers(0, 2**56 - batch))
    x0 = torch.from_numpy(rng.choice(grey_levels(levels), size=shape))
    return Example(
        output=torch.from_numpy(rng.standard_normal((batch, 2 * channels, *rest))).to(output_dtype),
        x0=x0.to(dtype),
        noise=torch.from_numpy(rng.standard_normal(shape)).to(dtype),
        # Every second sample or so is at level 1.
        t=torch.from_numpy(np.maximum(1, rng.integers(2 - len(betas), len(betas) + 1, batch))),
        weight=torch.from_numpy(rng.uniform(0, 2, batch)).float(),
        bound_weight=torch.from_numpy(rng.uniform(0.1, 2, batch)).float(),
        seed=torch.tensor(seed),
        step=torch.tensor(int(rng.integers(0, 2**32))),
        sample=torch.arange(first, first + batch),
        prediction=prediction, learned=learned, detach_mean=detach_mean, drawn=drawn,
        levels=levels, betas=betas,
    )  # fmt: skip


@st.composite
def examples(draw: st.DrawFn, min_batch: int = 0) -> Example:
    size = st.sampled_from(SIZES)
    shape = draw(
        st.tuples(st.integers(min_batch, 3), st.just(1), size)
        | st.tuples(st.integers(min_batch, 3), st.integers(1, 3), st.integers(0, 9))
    )
    prediction = draw(st.sampled_from(PREDICTIONS))
    betas = BETAS[: draw(st.integers(1, len(BETAS)))]
    if prediction in ("x0", "v") and draw(st.booleans()):
        betas = np.append(betas, 1.0)
    return make(
        shape,
        draw(SEEDS),
        dtype=draw(st.sampled_from(DTYPES)),
        output_dtype=draw(st.sampled_from(DTYPES)),
        prediction=prediction,
        learned=draw(st.sampled_from(LEARNED)),
        detach_mean=draw(st.booleans()),
        drawn=draw(st.booleans()),
        levels=draw(st.sampled_from(COUNTS)),
        betas=betas,
    )


def variance(example: Example, chain: Chain, t: int, raw: Array) -> Array:
    """The variance that raw stands for at a level."""
    if example.learned == "sigmoid":
        return variances.sigmoid_variance(chain, t - 1, t, raw)
    if t > 1:
        return variances.log_interpolated_variance(chain, t - 1, t, raw)
    high = variances.decoder_variance(chain, "beta")
    low = high if chain.steps == 1 else variances.decoder_variance(chain, "posterior")
    return np.asarray(high**raw * low ** (1 - raw))


def reference(example: Example, pred: Array, bound_pred: Array, raw: Array) -> tuple[Array, Array]:
    """Simple loss and bound per dimension, with predictions of their own, sample by sample."""
    chain, clean, noise = Chain(example.betas), exact(example.x0), example.exact_noise
    simple, bound = [], []
    for i, t in enumerate(example.t.tolist()):
        x0, eps = clean[i : i + 1], noise[i : i + 1]
        x_t = q_sample(x0, chain.alpha_bar[t], eps, chain.one_minus_alpha_bar[t])
        c, d = chain.c[t], chain.d[t]
        target = {"eps": eps, "x0": x0, "v": c * eps - d * x0, "score": -eps / d}
        simple.append(objectives.simple_loss(target[example.prediction], pred[i : i + 1])[0])
        mean = predict_mean(example.prediction, bound_pred[i : i + 1], x_t, chain, t, t - 1)  # type: ignore[arg-type]
        spread = variance(example, chain, t, raw[i : i + 1])
        term = hybrid.bound_term(x0, x_t, chain, t, mean, spread, example.levels)
        bound.append(term[0] / max(1, x0.size))
    return np.array(simple), np.array(bound)


def halves(output: Array) -> tuple[Array, Array]:
    pred, raw = np.split(output, 2, axis=1)
    return pred, raw
