r"""The uniform chain: a step draws a new grey level with probability beta, any of the K alike.

With kept_t = prod (1 - beta), a = kept_t / kept_s and j = x_t, i = x_0, write c = kept_s, e =
kept_t, u = (1 - a) / K, v = (1 - c) / K, w = (1 - e) / K. Then q(x_t | x_0) is e + w at i and w
elsewhere, and q(x_s | x_t, x_0) is

    where i = j:   A = (a + u) (c + v) / (e + w) at j,   D w / (e + w) elsewhere,
    where i != j:  B = (a + u) v / w at j,  C + D at i,  D elsewhere,  C = u c / w,  D = u v / w.

The network's law of x_0 is given by its odds that the pixel is unchanged, p / n with p + n = 1, and
by its law pi over the other grey levels. Averaging the posteriors over it gives

    p(x_s = j | x_t) = p A + n B,   p(x_s = k | x_t) = n C pi_k + D (n + p w / (e + w)).

Near the clean end n is tiny, so that it is never computed as 1 - p, nor a divergence as the
difference of two logarithms: with R_k = n (1 + pi_k c / v) + p w / (e + w) the ratios of the two
laws at j and elsewhere are 1 - n c u / (w (c + v)) and R_k (e + w) / w where i = j, and 1 + p c u /
(v (e + w)) and R_k, at i R_k D / (C + D), where it is not.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ddpm.data.images import to_float
from ddpm.discrete.chain import Tables, Terms, draw

OFFSET = 0.008
"""Of the cosine, so that the first steps are not too small."""


class Laws:
    """Numbers of pairs of levels (s, t), float64 and free of cancellation.

    kept_t = cos(y_t) / cos(y_0), y from 0.008 / 1.008 to 1 quarter turns, as of Hoogeboom et al.,
    "Argmax Flows and Multinomial Diffusion", 2021, https://arxiv.org/abs/2102.05379.

    Args:
        steps: Number of levels T.
        grey_levels: K.
        s: Cleaner levels, int64 [...].
        t: Noisier levels, int64 [...], 0 <= s < t <= T.
    """

    def __init__(self, steps: int, grey_levels: int, s: Tensor, t: Tensor) -> None:
        self.count = grey_levels
        kept_s, lost_s = _kept_lost(s, steps)
        kept_t, lost_t = _kept_lost(t, steps)
        changed = _changed(s, t, steps)
        self.a, self.c, self.e = 1 - changed, kept_s, kept_t
        self.u, self.v, self.w = (x / grey_levels for x in (changed, lost_s, lost_t))
        self.unchanged = self.e + self.w
        self.shrink = self.w / self.unchanged
        self.stay_same = (self.a + self.u) * (self.c + self.v) / self.unchanged
        self.stay_changed = (self.a + self.u) * self.v / self.w
        self.back = self.u * self.c / self.w
        self.drift = self.u * self.v / self.w
        self.residual = torch.log1p(self.e / self.w)

    def bound_rows(self) -> Tensor:
        """Numbers that `UniformChain.terms` reads, float64 [..., 12]; not used where s = 0."""
        # A level of s = 0 is in the same batch as others, so that what it computes must be finite.
        odds = torch.where(self.v > 0, self.c / self.v, 0.0)
        fall = self.c * self.u / (self.w * (self.c + self.v))
        rows = [
            self.residual,
            self.shrink,
            odds,
            self.stay_same,
            torch.where(self.v > 0, fall, 0.0),
            self.drift * self.shrink,
            (self.count - 1) * self.residual,
            self.stay_changed,
            odds * self.u / self.unchanged,
            self.drift,
            self.back,
            (self.back + self.drift) * torch.log1p(odds),
        ]
        return torch.stack(rows, dim=-1)


class UniformChain:
    """Uniform noise on grey levels 0..K-1.  G-3.5-D3PM.

    Args:
        steps: Number of levels T.
        grey_levels: K.
    """

    views = 1

    def __init__(self, steps: int, grey_levels: int) -> None:
        self.steps, self.grey_levels, self.states = steps, grey_levels, grey_levels
        levels = torch.arange(steps + 1)
        # No loss asks for level 0; its place holds the row of level 1.
        noisy = levels.clamp(min=1)
        rows = Laws(steps, grey_levels, noisy - 1, noisy).bound_rows()
        self._bound = Tables(rows)
        self._lost = Tables(_kept_lost(levels, steps)[1][:, None])

    def inputs(self, x: Tensor) -> Tensor:
        """Grey levels on [-1, 1], float32 [B, C, H, W]."""
        return to_float(x, self.grey_levels)

    def shown(self, x: Tensor) -> Tensor:
        """Grey levels on [-1, 1], float32 [B, C, H, W]."""
        return to_float(x, self.grey_levels)

    def initial(self, place: Tensor) -> Tensor:
        """Uniform grey levels."""
        return (place * self.grey_levels).long()

    def noised(self, clean: Tensor, t: Tensor, place: Tensor) -> Tensor:
        """Each pixel with probability 1 - kept_t a uniform grey level.

        Args:
            clean: Grey levels, int64 [B, C, H, W].
            t: Levels, int64 [B], in 0..T.
            place: Uniform numbers, float64 [B, C, H, W].
        """
        (lost,) = self._lost.at(t, torch.float64)
        # What is left of the number, where it is below, is uniform again and draws the grey level.
        fresh = (place / lost * self.grey_levels).clamp(max=self.grey_levels - 1).long()
        return torch.where(place < lost, fresh, clean)

    def terms(self, logits: Tensor, x: Tensor, clean: Tensor, t: Tensor) -> Terms:
        """The exact divergence from the posterior, and the cross-entropy of x_0.

        Args:
            logits: Of x_0 without what x_t itself says of it, float32 or float64
                [B, C, K, H, W].
            x: x_t, int64 [B, C, H, W].
            clean: x_0, int64 [B, C, H, W].
            t: Levels, int64 [B], in 1..T.
        """
        row = self._bound.at(t, logits.dtype)
        residual, shrink, gain, stay, y, rest, constant = row[:7]
        stay_changed, z, drift, back, constant_changed = row[7:]
        odds, other = _law(logits, x, residual)
        p, n = odds.sigmoid(), (-odds).sigmoid()
        at, floor = clean[:, :, None], n + p * shrink
        hidden = other.gather(2, at)[:, :, 0]
        ratio = (n * gain)[:, :, None] * other.exp() + floor[:, :, None]
        # The own grey level is among them with pi = 0.
        total = ratio.log().sum(2) - floor.log()
        log_ratio = ratio.gather(2, at)[:, :, 0].log()
        same = x == clean
        bound = torch.where(
            same,
            -stay * torch.log1p(-n * y) - rest * (total + constant),
            constant_changed - stay_changed * torch.log1p(p * z) - drift * total - back * log_ratio,
        )
        entropy = torch.where(same, -F.logsigmoid(odds), -F.logsigmoid(-odds) - hidden)
        return Terms(torch.where(t.reshape(-1, 1, 1, 1) == 1, entropy, bound), entropy)

    def step(self, logits: Tensor, x: Tensor, s: int, t: int, place: Tensor) -> Tensor:
        """Draw x_s by the posterior averaged over the law of x_0.

        Args:
            logits: Of x_0 without what x_t itself says of it, float32 [B, C, K, H, W].
            x: x_t, int64 [B, C, H, W].
            s: Level to go to.
            t: Level of x.
            place: Uniform numbers, float64 [B, C, H, W].
        """
        laws = Laws(self.steps, self.grey_levels, torch.tensor(s), torch.tensor(t))
        odds, other = _law(logits, x, float(laws.residual))
        p, n = odds.sigmoid(), (-odds).sigmoid()
        stays = p * float(laws.stay_same) + n * float(laws.stay_changed)
        floor = float(laws.drift) * (n + p * float(laws.shrink))
        law = (n * float(laws.back))[:, :, None] * other.exp() + floor[:, :, None]
        return draw(law.scatter(2, x[:, :, None], stays[:, :, None]), place)


def _law(logits: Tensor, x: Tensor, residual: Tensor | float) -> tuple[Tensor, Tensor]:
    """Log-odds of "unchanged" [B, C, H, W] and log pi [B, C, K, H, W], -inf at the own grey level.

    The network's logits are those of a prior; what x_t itself says of x_0, by Bayes' rule the
    residual on its own grey level, is added here.
    """
    at = x[:, :, None]
    others = logits.scatter(2, at, -math.inf)
    total = others.logsumexp(2, keepdim=True)
    odds = (logits.gather(2, at) - total)[:, :, 0] + residual
    return odds, others - total


def _angle(t: Tensor, steps: int) -> Tensor:
    return (t.double() / steps + OFFSET) / (1 + OFFSET) * math.pi / 2


def _kept_lost(t: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """kept_t and 1 - kept_t, the one 0 at level T."""
    start, angle = OFFSET / (1 + OFFSET) * math.pi / 2, _angle(t, steps)
    turn = angle - start
    lost = 2 * torch.sin(turn / 2) ** 2 + torch.sin(turn) * math.tan(start)
    last = t == steps
    kept = torch.cos(angle) / math.cos(start)
    return kept.masked_fill(last, 0.0), lost.masked_fill(last, 1.0)


def _changed(s: Tensor, t: Tensor, steps: int) -> Tensor:
    """1 - kept_t / kept_s."""
    low, high = _angle(s, steps), _angle(t, steps)
    changed = 2 * torch.sin((high + low) / 2) * torch.sin((high - low) / 2) / torch.cos(low)
    return changed.masked_fill(t == steps, 1.0)
