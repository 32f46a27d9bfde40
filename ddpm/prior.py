r"""PriorGrad: diffusion towards a Gaussian fitted to the data, N(mean, diag(std^2)).

The noise of every step has the covariance diag(std^2), and so has the start of a sampler, to which
the mean is added. In the coordinates y = (x - mean) / std that is the ordinary process, and its
plain loss is the loss in the metric of the inverse covariance. So training, schedules and samplers
are those of y, and a prior is the map between the two. The divergences of the bound are the same in
both coordinates; grey levels are those of x, so the decoder is taken there.

Sources: G-49, G-49-sample, G-50; Lee et al., PriorGrad (2022).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm.decoder import discretised_log_likelihood
from ddpm.errors import InputError, check

FLOOR = 1.0
"""Least standard deviation of a pixel, in units of the spacing of the grey levels."""
AT_A_TIME = 4096
"""Images whose squares are summed at a time."""


@dataclass(frozen=True, eq=False)
class Prior:
    """Mean and standard deviation of every pixel, of all images or of each class.  G-49.

    Attributes:
        mean: float32 [C, H, W] or, for vectors, [D]; [K, C, H, W] or [K, D] for K classes.
        std: The same shape, positive.

    Raises:
        InputError: a tensor does not fit this description.
    """

    mean: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            check(values.dtype == torch.float32, f"{name}: dtype", str(values.dtype), "float32")
        shape, other = tuple(self.mean.shape), tuple(self.std.shape)
        right = 1 <= len(shape) <= 4 and min(shape) >= 1
        check(right, "mean: shape", shape, "(C, H, W) or (D,), or one for each class")
        check(other == shape, "std: shape", other, f"{shape}, as for the mean")
        # On another device the values are not looked at: the host would have to wait for them.
        if self.mean.device.type == self.std.device.type == "cpu":
            _check_values(self.mean, self.std)

    @classmethod
    def fit(cls, images: Tensor, grey_levels: int, floor: float = FLOOR) -> "Prior":
        """Mean and standard deviation of every pixel of the training images.

        Args:
            images: uint8 [N, C, H, W], grey levels 0..grey_levels-1.
            grey_levels: Number of grey levels, at least 2.
            floor: Least standard deviation in units of the spacing 2 / (grey_levels - 1), positive:
                a pixel that never changes has none of its own.

        Raises:
            InputError: an argument does not fit this description.
        """
        _check_fit(images, grey_levels, floor)
        return cls(*_moments(images, grey_levels, floor))

    @classmethod
    def fit_by_class(
        cls,
        images: Tensor,
        labels: Tensor,
        grey_levels: int,
        floor: float = FLOOR,
        classes: int | None = None,
    ) -> "Prior":
        """A prior for each class; noise and mean then depend on the label of an image.

        Args:
            images: As in `fit`, and so all others.
            labels: int64 [N], in 0..K-1, every one of them at least once.
            grey_levels: Number of grey levels.
            floor: Least standard deviation.
            classes: K, or None for one more than the largest label.

        Raises:
            InputError: an argument does not fit this description, or a class has no images.
        """
        _check_fit(images, grey_levels, floor)
        right = labels.dtype == torch.int64 and labels.shape == images.shape[:1]
        given = (str(labels.dtype), tuple(labels.shape))
        check(right, "labels", given, f"int64 ({len(images)},)")
        count = 1 + int(labels.max()) if classes is None else classes
        inside = int(labels.min()) >= 0 and int(labels.max()) < count
        check(inside, "labels", (int(labels.min()), int(labels.max())), f"0 to {count - 1}")
        empty = sorted(set(range(count)) - set(labels.tolist()))
        check(not empty, "classes without images", empty, "none, a prior is fitted to each")
        parts = [_moments(images[labels == k], grey_levels, floor) for k in range(count)]
        means, stds = zip(*parts, strict=True)
        return cls(torch.stack(means), torch.stack(stds))

    @property
    def classes(self) -> int | None:
        """Number of classes K, or None where there is one prior for all images."""
        return len(self.mean) if self.mean.dim() in (2, 4) else None

    @property
    def widest(self) -> float:
        """Largest standard deviation: noise of y is at most so many times as wide in x."""
        return float(self.std.max())

    @property
    def typical(self) -> float:
        """Geometric mean of the standard deviations: noise of y is typically so wide in x."""
        return float(self.std.double().log().mean().exp())

    def to(self, device: torch.device | str) -> "Prior":
        """The same prior on a device; elsewhere each use copies it there."""
        mean, std = self.mean.to(device), self.std.to(device)
        return self if mean is self.mean and std is self.std else Prior(mean, std)

    def whiten(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Give y = (x - mean) / std.  G-50.

        Args:
            x: Images or vectors [B, ...].
            labels: int64 [B], the class of each, for a prior by class; None for others.

        Raises:
            ValueError: the shape is not the prior's, or labels are missing, unfit or not wanted.
        """
        mean, std = self._rows(x, labels)
        return (x - mean) / std

    def restore(self, y: Tensor, labels: Tensor | None = None) -> Tensor:
        """Give x = mean + std y, the inverse of `whiten`, with its arguments.  G-49-sample."""
        mean, std = self._rows(y, labels)
        return mean + std * y

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps of the prior."""
        return {"mean": self.mean, "std": self.std}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], source: str = "prior") -> "Prior":
        """The prior of what `tensors` gave.

        Args:
            tensors: By name.
            source: What errors call them.

        Raises:
            InputError: one is missing, unknown or unfit.
        """
        names = sorted(tensors)
        check(names == ["mean", "std"], f"{source}: tensors", names, "mean and std")
        try:
            return Prior(tensors["mean"], tensors["std"])
        except InputError as error:
            raise InputError(f"{source}: {error}") from None

    def _rows(self, x: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation for each sample of x, or for all."""
        mean, std = self.mean.to(x.device), self.std.to(x.device)
        shape = mean.shape if self.classes is None else mean.shape[1:]
        if x.shape[1:] != shape or x.dim() == 0:
            raise ValueError(
                f"x has shape {tuple(x.shape)}: allowed under this prior is (B, "
                f"{', '.join(map(str, shape))})"
            )
        if self.classes is None:
            if labels is not None:
                raise ValueError("labels are given: allowed for one prior of all classes is None")
            return mean, std
        if labels is None or labels.dtype != torch.int64 or labels.shape != x.shape[:1]:
            found = None if labels is None else f"{labels.dtype} {tuple(labels.shape)}"
            raise ValueError(f"labels = {found}: allowed is torch.int64 ({len(x)},)")
        # On a GPU a label outside is not looked for: the host would have to wait for it.
        if labels.device.type == "cpu" and not bool(((labels >= 0) & (labels < len(mean))).all()):
            raise ValueError(f"labels = {labels.tolist()[:8]}: allowed is 0 to {len(mean) - 1}")
        return mean[labels], std[labels]


def decoder_bits(
    prior: Prior,
    y_mean: Tensor,
    x_start: Tensor,
    std: float,
    levels: int,
    labels: Tensor | None = None,
) -> float:
    """Give -log p(x_0 | y_1) in bits/dim, for the grey levels of x.  L-2.10, K-63, G-49.

    Args:
        prior: The map between x and y.
        y_mean: Estimates of the whitened clean images [B, ...].
        x_start: Clean images [B, ...] in [-1, 1], on the grey levels.
        std: Standard deviation of the decoder in y; in x it is this times the prior's.
        levels: Number of grey levels.
        labels: int64 [B] for a prior by class.

    Raises:
        ValueError: an argument is unfit.
    """
    if not std > 0:
        raise ValueError(f"std = {std}: allowed is a positive number")
    _, width = prior._rows(x_start, labels)
    mean = prior.restore(y_mean.double(), labels)
    log_p = discretised_log_likelihood(x_start, mean, std * width.double(), levels)
    return -float(log_p.mean()) / math.log(2)


def fit_decoder_std(
    prior: Prior,
    y_mean: Tensor,
    x_start: Tensor,
    around: float,
    levels: int,
    labels: Tensor | None = None,
) -> float:
    """Standard deviation of the decoder in y that is most likely on the given (training) images.

    Args:
        prior: The map between x and y.
        y_mean: Estimates of the whitened clean images [B, ...].
        x_start: Clean images [B, ...].
        around: Where to look: sigma of level 1, positive.
        levels: Number of grey levels.
        labels: int64 [B] for a prior by class.

    Returns:
        The best of 60 geometrically spaced values around it, within 4 percent.
    """
    grid = [around * 10 ** (-1 + 1.5 * i / 59) for i in range(60)]
    return min(grid, key=lambda std: decoder_bits(prior, y_mean, x_start, std, levels, labels))


def _check_values(mean: Tensor, std: Tensor) -> None:
    for name, values in (("mean", mean), ("std", std)):
        check(bool(values.isfinite().all()), name, "not finite", "finite numbers")
    check(bool((std > 0).all()), "std", float(std.min()), "positive numbers")


def _check_fit(images: Tensor, grey_levels: int, floor: float) -> None:
    check(images.dtype == torch.uint8, "images: dtype", str(images.dtype), "uint8")
    shape = tuple(images.shape)
    check(len(shape) == 4 and min(shape) >= 1, "images: shape", shape, "(N, C, H, W), none 0")
    check(2 <= grey_levels <= 256, "grey_levels", grey_levels, "2 to 256")
    largest = int(images.max())
    check(largest < grey_levels, "images: largest value", largest, f"0 to {grey_levels - 1}")
    check(0 < floor < float("inf"), "floor", floor, "a positive number")


def _moments(images: Tensor, grey_levels: int, floor: float) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every pixel in [-1, 1], float32; sums of levels are exact."""
    parts = torch.split(images, AT_A_TIME)
    mean = torch.stack([part.sum(0) for part in parts]).sum(0).double() / len(images)
    squares = torch.stack([part.long().square().sum(0) for part in parts]).sum(0).double()
    std = (squares / len(images) - mean.square()).clamp_min(0).sqrt().clamp_min(floor)
    unit = 2 / (grey_levels - 1)
    return (mean * unit - 1).float(), (std * unit).float()
