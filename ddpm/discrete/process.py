"""Diffusion of grey levels: noising, losses, reverse steps and the bound, by any chain.

Levels run t = 0..T with 0 the clean data. The network sees float32 pictures of the states and
returns K logits of the clean grey level for each value; every random number is a function of a
`Key`.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ddpm.discrete.absorbing import AbsorbingChain
from ddpm.discrete.chain import Chain, Terms, places
from ddpm.discrete.checks import check_images, check_levels_of
from ddpm.discrete.uniform import UniformChain
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.likelihood import BATCH, NATS_PER_BIT
from ddpm.samplers.levels import check_levels, trailing
from ddpm.samplers.loop import Model, State, tensor_of

Transition = Literal["uniform", "absorbing"]
MOST_STEPS = 1_000_000
"""Levels of a chain; more are a slip of the hand, and their tables would fill the memory."""
PART = 2**22
"""Logits that are worked on at a time."""


class DiscreteDiffusion:
    """The noising of grey levels, its losses and its reverse process.  G-3.5-D3PM.

    Args:
        steps: Number of levels T, 1 to 1,000,000.
        grey_levels: Number K of grey levels, 2 to 256.
        transition: "absorbing" turns pixels into a mask, one in T of them at each level; "uniform"
            draws them anew, by a cosine.
        auxiliary: Share of the cross-entropy of the clean image in the loss, at least 0.

    Attributes:
        states: Number of states of a pixel: K, and one more for the mask.

    Raises:
        ValueError: an argument is not allowed.
    """

    def __init__(
        self, steps: int, grey_levels: int, transition: Transition, auxiliary: float = 0.001
    ) -> None:
        if not 1 <= steps <= MOST_STEPS:
            raise ValueError(f"steps = {steps}: allowed is 1 to {MOST_STEPS}")
        if not 2 <= grey_levels <= 256:
            raise ValueError(f"grey_levels = {grey_levels}: allowed is 2 to 256")
        if transition not in get_args(Transition):
            allowed = ", ".join(get_args(Transition))
            raise ValueError(f"transition = {transition!r}: allowed is one of {allowed}")
        if not 0 <= auxiliary < math.inf:
            raise ValueError(f"auxiliary = {auxiliary}: allowed is a finite number of at least 0")
        self.steps, self.grey_levels = steps, grey_levels
        self.transition: Transition = transition
        self.auxiliary = auxiliary
        kind = AbsorbingChain if transition == "absorbing" else UniformChain
        self.chain: Chain = kind(steps, grey_levels)
        self.states = self.chain.states

    def input_channels(self, channels: int) -> int:
        """Channels that the network sees for images of C channels."""
        return channels * self.chain.views

    def output_channels(self, channels: int) -> int:
        """Channels that the network returns for images of C channels: C times K logits."""
        return channels * self.grey_levels

    def inputs(self, x: Tensor) -> Tensor:
        """States as the network sees them.

        Args:
            x: int64 [B, C, H, W]; the mask is state K.

        Returns:
            float32 [B, input_channels(C), H, W]: grey levels on [-1, 1], masks at 0, and for the
            absorbing chain C more channels with 1 for a mask and 0 elsewhere.
        """
        return self.chain.inputs(x)

    def q_sample(
        self, images: Tensor, t: Tensor, key: Key, stream: Stream = Stream.TRAINING_NOISE
    ) -> Tensor:
        """Draw x_t from q(x_t | x_0).

        Args:
            images: Grey levels, uint8 [B, C, H, W].
            t: Levels, int64 [B], in 0..T.
            key: Where the noise is drawn; its sample indices are [B].
            stream: Tag of the use.

        Returns:
            States, int64 [B, C, H, W].

        Raises:
            ValueError: images or levels do not fit.
        """
        check_images(images, self.grey_levels)
        check_levels_of(t, len(images), 0, self.steps)
        return self.chain.noised(images.long(), t, places(key, stream, images.shape))

    def training_losses(
        self,
        network: Model,
        images: Tensor,
        t: Tensor,
        key: Key,
        weight: Tensor | None = None,
        **conditions: Any,
    ) -> Tensor:
        """T times the term of the bound at level t, and a share of the cross-entropy.

        In nats a dimension. Averaged over uniform levels the first part is the bound itself, whose
        prior term is 0.

        Args:
            network: Takes (`inputs(x_t)`, t, **conditions).
            images: Grey levels, uint8 [B, C, H, W].
            t: Levels, int64 [B], in 1..T.
            key: Where the noise is drawn.
            weight: float32 [B], a factor of each sample's loss, or None for ones.
            conditions: Passed to the network.

        Returns:
            float32 [B].

        Raises:
            ValueError: an argument, or what the network returns, does not fit.
        """
        check_images(images, self.grey_levels)
        check_levels_of(t, len(images), 1, self.steps)
        if weight is not None and weight.shape != t.shape:
            raise ValueError(f"weight has shape {list(weight.shape)}: allowed is {list(t.shape)}")
        x = self.q_sample(images, t, key)
        terms = self._terms(self._logits(network, x, t, conditions), x, images, t)
        losses = self.steps * terms.bound.flatten(1).mean(1)
        losses = losses + self.auxiliary * terms.cross_entropy.flatten(1).mean(1)
        return losses if weight is None else losses * weight

    def sample_progressive(
        self,
        network: Model,
        shape: Sequence[int],
        key: Key,
        steps: int | Sequence[int] | None = None,
        **conditions: Any,
    ) -> Iterator[State]:
        """Yield the state after every reverse step.

        A step from t to s draws from p(x_s | x_t), the sum over x_0 of q(x_s | x_t, x_0)
        p(x_0 | x_t), whatever levels lie between. Image i of a seed is the same in any batch.

        Args:
            network: Takes (`inputs(x_t)`, t, **conditions).
            shape: [B, C, H, W] of the images.
            key: Its seed and sample indices [B] draw the noise of every step.
            steps: Number of network calls, in 1..T, or the levels themselves, from T down to 0;
                None means T.
            conditions: Passed to the network.

        Returns:
            States whose x is float32 [B, C, H, W] in [-1, 1], with masks as mid grey. The last
            holds grey levels only, which `ddpm.data.images.to_levels` gives back exactly.

        Raises:
            ValueError: an argument does not fit.
        """
        if len(shape) != 4 or shape[0] != len(key.sample) or min(shape[1:]) < 1:
            raise ValueError(
                f"shape = {list(shape)}: allowed is [{len(key.sample)}, C, H, W], as many images "
                "as the key has samples"
            )
        levels = self._path(steps)
        return self._sampled(network, torch.Size(shape), key, levels, conditions)

    def prior_bits(self, images: Tensor) -> float:
        """KL(q(x_T | x_0) || p(x_T)) in bits/dim: 0, since nothing of x_0 is left at level T.

        Args:
            images: Grey levels, uint8 [B, C, H, W].
        """
        check_images(images, self.grey_levels)
        return 0.0

    @torch.no_grad()
    def level_bits(
        self, network: Model, images: Tensor, t: int, seed: int, **conditions: Tensor
    ) -> float:
        """Term of level t of the bound in bits/dim, averaged over the images.

        The divergence of the posterior from the model's step for t >= 2, -log p(x_0 | x_1) for 1;
        exact given one draw of x_t.

        Args:
            network: Takes (`inputs(x_t)`, t, **conditions).
            images: Grey levels, uint8 [B, C, H, W]; image i is sample i of the evaluation noise.
            t: Level, in 1..T.
            seed: Key of the evaluation noise.
            conditions: Passed to the network, tensors [B, ...] with one entry an image.

        Raises:
            ValueError: an argument does not fit.
        """
        check_images(images, self.grey_levels)
        if not 1 <= t <= self.steps:
            raise ValueError(f"t = {t}: allowed is 1 to T = {self.steps}")
        key = Key.of(seed, range(len(images)), step=t, device=images.device)
        total = torch.zeros((), dtype=torch.float64, device=images.device)
        for first in range(0, len(images), BATCH):
            rows = slice(first, first + BATCH)
            part, own = images[rows], Key(key.seed, key.step, key.sample[rows])
            level = torch.full((len(part),), t, dtype=torch.int64, device=images.device)
            x = self.q_sample(part, level, own, Stream.EVALUATION_NOISE)
            told = {name: value[rows] for name, value in conditions.items()}
            # A divergence of 1e-5 between laws of order one leaves few digits of float32.
            logits = self._logits(network, x, level, told).double()
            total += self._terms(logits, x, part, level).bound.sum()
        return float(total) / images.numel() / NATS_PER_BIT

    @torch.no_grad()
    def _sampled(
        self,
        network: Model,
        shape: torch.Size,
        key: Key,
        levels: Sequence[int],
        conditions: dict[str, Any],
    ) -> Iterator[State]:
        start = Key(key.seed, torch.zeros_like(key.step), key.sample)
        x, count = self.chain.initial(places(start, Stream.INITIAL_NOISE, shape)), len(levels) - 1
        for i, (t, s) in enumerate(pairwise(levels)):
            level = torch.full((shape[0],), t, dtype=torch.int64, device=x.device)
            logits = self._logits(network, x, level, conditions)
            here = Key(key.seed, torch.full_like(key.step, t), key.sample)
            place = places(here, Stream.SAMPLING_NOISE, shape)
            x = self._step(logits, x, s, t, place)
            yield State(self.chain.shown(x), s, i + 1, count)

    def _step(self, logits: Tensor, x: Tensor, s: int, t: int, place: Tensor) -> Tensor:
        parts = zip(
            *(torch.split(value, _rows(logits)) for value in (logits, x, place)), strict=True
        )
        return torch.cat([self.chain.step(own, at, s, t, u) for own, at, u in parts])

    def _logits(self, network: Model, x: Tensor, t: Tensor, conditions: dict[str, Any]) -> Tensor:
        """What the network returns for states x, float32 [B, C, K, H, W]."""
        output = tensor_of(network(self.inputs(x), t, **conditions))
        batch, channels, *sides = x.shape
        want = (batch, self.output_channels(channels), *sides)
        if output.shape != want:
            raise ValueError(
                f"the network returned shape {list(output.shape)}: allowed is {list(want)}, "
                f"{self.grey_levels} logits for each value"
            )
        return output.float().view(batch, channels, self.grey_levels, *sides)

    def _terms(self, logits: Tensor, x: Tensor, images: Tensor, t: Tensor) -> Terms:
        """Terms of a batch, in parts whose intermediate results are not kept for the gradient."""
        rows, given = _rows(logits), (logits, x, images.long(), t)
        if len(logits) <= rows:
            return self.chain.terms(*given)
        parts = []
        for part in zip(*(torch.split(value, rows) for value in given), strict=True):
            parts.append(
                checkpoint(self.chain.terms, *part, use_reentrant=False, preserve_rng_state=False)
            )
        return Terms(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _path(self, steps: int | Sequence[int] | None) -> Sequence[int]:
        if steps is None or isinstance(steps, int):
            return trailing(self.steps, steps)
        check_levels(steps, self.steps)
        if steps[0] != self.steps:
            raise ValueError(f"levels begin at {steps[0]}: allowed is T = {self.steps}")
        return steps


def _rows(logits: Tensor) -> int:
    """Images whose logits are worked on at a time."""
    return max(1, PART // logits.shape[1:].numel())
