r"""The absorbing chain: a pixel turns into the mask and stays one.

With beta_t = 1 / (T - t + 1) a pixel is masked at a level drawn uniformly from 1..T:

    q(x_t = mask | x_0) = t / T,
    q(x_s = x_0 | x_t = mask, x_0) = (t - s) / t,
    KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) = - log p(x_0 | x_t) / t where x_t is the mask.

A pixel that is no mask is its own x_0 and has no loss. At t = 1 the same line is the decoder.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ddpm.data.images import to_float
from ddpm.discrete.chain import Terms, draw


class AbsorbingChain:
    """Masks on grey levels 0..K-1; the mask is state K.  G-3.5-D3PM.

    Args:
        steps: Number of levels T.
        grey_levels: K.
    """

    views = 2

    def __init__(self, steps: int, grey_levels: int) -> None:
        self.steps, self.grey_levels = steps, grey_levels
        self.states, self.mask = grey_levels + 1, grey_levels

    def inputs(self, x: Tensor) -> Tensor:
        """Grey levels on [-1, 1] with masks at 0, then one where there is a mask.

        Args:
            x: States, int64 [B, C, H, W].

        Returns:
            float32 [B, 2 C, H, W].
        """
        return torch.cat([self.shown(x), (x == self.mask).float()], dim=1)

    def shown(self, x: Tensor) -> Tensor:
        """Grey levels on [-1, 1], masks as mid grey."""
        return to_float(x, self.grey_levels).masked_fill(x == self.mask, 0.0)

    def initial(self, place: Tensor) -> Tensor:
        """Masks alone, whatever the numbers."""
        return torch.full(place.shape, self.mask, dtype=torch.int64, device=place.device)

    def noised(self, clean: Tensor, t: Tensor, place: Tensor) -> Tensor:
        """Each pixel with probability t / T the mask.

        Args:
            clean: Grey levels, int64 [B, C, H, W].
            t: Levels, int64 [B], in 0..T.
            place: Uniform numbers, float64 [B, C, H, W].
        """
        masked = place * self.steps < t.reshape(-1, 1, 1, 1)
        return clean.masked_fill(masked, self.mask)

    def terms(self, logits: Tensor, x: Tensor, clean: Tensor, t: Tensor) -> Terms:
        """The cross-entropy where there are masks, and its share 1 / t in the bound.

        Args:
            logits: Of x_0, float32 or float64 [B, C, K, H, W].
            x: x_t, int64 [B, C, H, W].
            clean: x_0, int64 [B, C, H, W].
            t: Levels, int64 [B], in 1..T.
        """
        nats = F.cross_entropy(logits.flatten(0, 1), clean.flatten(0, 1), reduction="none")
        nats = nats.view_as(clean).masked_fill(x != self.mask, 0.0)
        return Terms(nats / t.clamp(min=1).reshape(-1, 1, 1, 1), nats)

    def step(self, logits: Tensor, x: Tensor, s: int, t: int, place: Tensor) -> Tensor:
        """Reveal each mask with probability (t - s) / t, all of them where s is 0.

        Args:
            logits: Of x_0, float32 [B, C, K, H, W].
            x: x_t, int64 [B, C, H, W].
            s: Level to go to.
            t: Level of x.
            place: Uniform numbers, float64 [B, C, H, W].
        """
        # What is left of the number, where it reveals, is uniform again and draws the grey level.
        rest = place * t / (t - s)
        grey = draw(logits.softmax(2), rest)
        return torch.where((x == self.mask) & (rest < 1), grey, x)
