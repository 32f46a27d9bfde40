"""`ddpm sample --trajectory`: pictures on their way from noise, at some of the levels."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.data.images import to_levels
from ddpm.errors import check
from ddpm.evaluation.trajectories import animate, trajectory_grid
from ddpm.files import write_atomically
from ddpm.samplers.loop import State

MOST_FRAMES = 60
"""States that are kept of a picture, evenly over the steps, the first and the last among them."""
MOST_PICTURES = 256
MOST_BYTES = 1 << 30
"""Memory that all states may take."""
ENDINGS = ("-trajectory.gif", "-trajectory.png", "-trajectory.npz")
"""What the files are called after the name of the grid."""


def check_size(num: int, steps: int, image_shape: Sequence[int]) -> None:
    """Refuse more pictures than there is memory for their states.

    Raises:
        InputError: naming the number that is allowed.
    """
    channels, height, width = image_shape
    frames = min(MOST_FRAMES, steps + 1)
    most = max(1, min(MOST_PICTURES, MOST_BYTES // (4 * frames * channels * height * width)))
    reason = f"1 to {most} with a trajectory, whose {frames} states of each are kept in memory"
    check(num <= most, "num", num, reason)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """States of pictures on their way.

    Attributes:
        states: float32 [frames, num, C, H, W], on the CPU.
        levels: Level of each, strictly decreasing to 0.
    """

    states: Tensor
    levels: list[int]


class Recorder:
    """Keeps some of the states that pass by, of one batch of pictures after the other.

    Where a step of a sampler takes several rows, which reach one level one after the other, the
    last of them counts.

    Args:
        steps: Levels that the sampler visits below its first.
    """

    def __init__(self, steps: int) -> None:
        last = min(MOST_FRAMES, steps + 1) - 1
        self._chosen = {round(i * steps / max(1, last)) for i in range(last + 1)}
        self._kept: dict[int, list[Tensor]] = {}

    def watch(self, start: State | None, states: Iterator[State]) -> Iterator[State]:
        """Pass on the states of a batch, and keep those that are wanted."""
        before, place = start, 0
        for state in states:
            if before is not None and state.t != before.t:
                self._keep(before, place)
                place += 1
            before = state
            yield state
        if before is not None:
            self._keep(before, place)

    def trajectory(self) -> Trajectory:
        """What was kept of all batches."""
        return Trajectory(torch.stack([torch.cat(x) for x in self._kept.values()]), [*self._kept])

    def _keep(self, state: State, place: int) -> None:
        if place in self._chosen or state.t == 0:
            copy = state.x.detach().to("cpu", torch.float32, copy=True)
            self._kept.setdefault(state.t, []).append(copy)


def write_trajectory(stem: Path, found: Trajectory, grey_levels: int, shown: int) -> list[Path]:
    """Write an animation, a picture of some levels, and the states themselves.

    Args:
        stem: Folder and beginning of the names.
        found: The states.
        grey_levels: Number of grey levels of the pictures.
        shown: Pictures in the animation.

    Returns:
        The files, in the order of `ENDINGS`.

    Raises:
        InputError: they cannot be written.
    """
    animation, grid, arrays = (stem.with_name(stem.name + ending) for ending in ENDINGS)
    pictures = [to_levels(torch.nan_to_num(x), grey_levels) for x in found.states]
    animate(animation, [frame[:shown] for frame in pictures], grey_levels)
    trajectory_grid(grid, pictures, found.levels, grey_levels)
    content = io.BytesIO()
    np.savez_compressed(content, states=found.states.numpy(), levels=np.array(found.levels))
    write_atomically(arrays, content.getvalue())
    return [animation, grid, arrays]
