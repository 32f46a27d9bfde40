"""Block sizes and grids, and the refusal of launches that are too large."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from ddpm.kernels.gpu import launch


@given(st.sampled_from(sorted(launch.TABLE)), st.integers(1, 2**34), st.sampled_from([1, 2]))
@example("cuda:90", 64, 1)
def test_blocks(name: str, size: int, times: int) -> None:
    chosen = launch.choose(name, size, times)
    limit, _ = launch.TABLE[name]
    assert chosen.block & (chosen.block - 1) == 0
    assert 4 <= chosen.block <= limit
    # No more than one block is partly idle, and less than half of it where it is the only one.
    assert chosen.block < max(2 * size, 8)
    assert 1 <= chosen.num_warps <= 8
    assert chosen.num_warps & (chosen.num_warps - 1) == 0


def test_image_sizes_need_no_mask() -> None:
    for side in (8, 16, 32, 64, 128):
        size = 3 * side * side
        block = launch.choose("cuda:90", size).block
        assert size % block == 0 or size < 512


def test_grid_is_flat_and_bounded() -> None:
    assert launch.grid(70_000, 3) == (210_000,)
    with pytest.raises(ValueError, match="allowed: 2147483647"):
        launch.grid(2**20, 2**11)


def test_the_processor_is_the_interpreter() -> None:
    assert launch.architecture(torch.device("cpu")) == "interpreter"
    assert launch.DEFAULT in launch.TABLE


def test_a_thread_may_take_twice_the_elements() -> None:
    one, two = launch.choose("cuda:90", 12_288), launch.choose("cuda:90", 12_288, 2)
    assert one.block == two.block
    assert one.num_warps == 2 * two.num_warps
    assert two.block == 64 * 32 * two.num_warps
