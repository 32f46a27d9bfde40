r"""Samples that take over the coarse part of a picture y.  G-Alg3, G-ILVR-phi.

After a step to level s the coarse part phi(x) of the sample is replaced by that of y at level s,

    x <- x - phi(x) + phi(y_s),   y_s ~ q(y_s | y),   y_0 = y,

where phi is the mean over squares of factor x factor pixels, repeated. It is an orthogonal
projection, so that phi(x_s) = phi(y_s) after every step and a sample has the coarse part of y.
What is fine is drawn by the model; it is not the conditional distribution given phi(x_0) = phi(y),
as with `ddpm.samplers.inpainting`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError, check
from ddpm.keys import Key
from ddpm.samplers.loop import Edit
from ddpm.samplers.pictures import Following, followed, noisy


@dataclass(frozen=True, eq=False)
class Ilvr(Following):
    """Pictures to take the coarse part of, after Choi et al. (2021), algorithm 1.  G-Alg3.

    Attributes:
        reference: float32 [N, C, H, W] in [-1, 1]; picture i of a run follows row i % N.
        factor: Side of the squares of pixels that are averaged, at least 2, a divisor of H and W.
            A larger one leaves more to the model.
        until: Last level that is acted on; 0 for all. A larger one leaves the levels below it to
            the model alone, so that the coarse part is near that of the reference, not equal to it.

    Raises:
        InputError: naming what is not allowed.
    """

    factor: int = 4
    until: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        height, width = self.reference.shape[2:]
        check(
            self.factor >= 2 and height % self.factor == width % self.factor == 0,
            "factor", self.factor, f"a divisor of height and width, {height} and {width}, above 1",
        )  # fmt: skip
        check(self.until >= 0, "until", self.until, "a level, 0 for all of them")

    def edit(self, diffusion: GaussianDiffusion, shape: Sequence[int], key: Key) -> Edit:
        """What is done after every step of a sampler; see `ddpm.samplers.loop.Edit`.

        Args:
            diffusion: The process.
            shape: [B, C, H, W] of the samples.
            key: Their seed and sample indices [B], which the noise of the reference depends on.

        Raises:
            InputError: the samples have another shape, or `until` is no level below T.
        """
        self.check(shape[1:])
        last = diffusion.schedule.steps - 1
        if self.until > last:
            raise InputError(f"until = {self.until}: allowed is 0 to T - 1 = {last}")
        clean, side, until = followed(self.reference, key), self.factor, self.until

        def replace(x: Tensor, s: int) -> Tensor:
            if s < until:
                return x
            # phi is linear: one filter of the difference in place of two.
            return x + low_pass(noisy(diffusion, clean, s, key) - x, side)

        return replace


def low_pass(x: Tensor, factor: int) -> Tensor:
    """Means over squares of pixels, repeated: phi of the formulas.  G-ILVR-phi.

    Args:
        x: [B, C, H, W].
        factor: Side of the squares, a divisor of H and W.

    Returns:
        Like x.
    """
    means = functional.avg_pool2d(x, factor)
    return functional.interpolate(means, scale_factor=factor, mode="nearest")
