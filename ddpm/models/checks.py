"""What the configurations of all networks refuse."""

from typing import Protocol

from torch import Tensor

from ddpm.errors import check

LARGEST_SIZE = 2**16
"""Of a layer or a number of layers; larger ones are a slip of the hand, or of a file."""


class Shared(Protocol):
    """Fields that every configuration of a network has."""

    @property
    def dropout(self) -> float:
        """Probability of dropping an activation."""

    @property
    def classes(self) -> int:
        """Number of classes, 0 for none."""


def check_shared(config: Shared, *sizes: str) -> None:
    """Check what all configurations have, and that the named sizes are at least 1.

    Raises:
        InputError: naming the field.
    """
    for name in sizes:
        value = getattr(config, name)
        check(value >= 1, name, value, "an integer of at least 1")
        check(value <= LARGEST_SIZE, name, value, f"at most {LARGEST_SIZE}")
    check(0 <= config.dropout < 1, "dropout", config.dropout, "a probability in [0, 1)")
    check(config.classes >= 0, "classes", config.classes, "0 for none, or their number")


def check_input(x: Tensor, shape: tuple[int | None, ...]) -> None:
    """Refuse images that the network was not made for.

    Args:
        x: The images.
        shape: What x must have after the batch; None where any size will do.

    Raises:
        ValueError: naming both shapes.
    """
    fits = len(shape) == x.dim() - 1 and all(
        wanted is None or wanted == size for wanted, size in zip(shape, x.shape[1:], strict=True)
    )
    if not fits:
        allowed = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"x has shape {list(x.shape)}: allowed is [any, {allowed}]")
