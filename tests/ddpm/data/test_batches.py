"""Batches against the NumPy reference, written out epoch by epoch; workers against no workers."""

import itertools
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import active_children

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.data.batches import Batches, InMemory, Streamed, batches_of, places
from ddpm.data.images import ImageData
from ddpm.data.sources import Held, Subset, read_all
from ddpm.data.streamed import streamed_from_memory
from ddpm.errors import InputError
from ddpm.reference import philox

CPU = torch.device("cpu")
COUNT, SIZE, SEED = 21, 8, 5
IMAGES = torch.arange(COUNT, dtype=torch.uint8)[:, None, None, None].expand(COUNT, 1, 2, 2)


def endless(count: int, seed: int, length: int) -> list[int]:
    """The first places of the sequence of epochs, as the reference shuffles them."""
    epochs = range(-(-length // count))
    orders = [philox.permutation(seed, epoch, count).tolist() for epoch in epochs]
    return list(itertools.chain(*orders))[:length]


@given(
    count=st.integers(1, 30),
    size=st.integers(1, 20),
    update=st.integers(0, 5),
    parts=st.integers(1, 4),
    seed=st.integers(-(2**63), 2**63 - 1),
)
@settings(max_examples=40)
def test_a_batch_is_a_window_on_the_epochs(
    count: int, size: int, update: int, parts: int, seed: int
) -> None:
    expected = endless(count, seed, (update + 1) * size)[update * size :]
    edges = [size * part // parts for part in range(parts + 1)]
    found = [places(count, size, seed, update, slice(edges[i], edges[i + 1])) for i in range(parts)]
    assert torch.cat(found).tolist() == expected
    assert places(count, size, seed, update, slice(None)).tolist() == expected


def test_rows_with_a_step_are_refused() -> None:
    with pytest.raises(InputError, match=r"rows = slice\(0, 8, 2\)"):
        places(COUNT, SIZE, SEED, 0, slice(0, 8, 2))


def test_images_in_memory_come_in_that_order() -> None:
    batches: Batches = InMemory(IMAGES, SIZE, SEED, CPU)
    assert (batches.count, batches.shape) == (COUNT, (1, 2, 2))
    drawn = torch.cat([batches.at(update, slice(None)) for update in range(6)])
    assert drawn[:, 0, 1, 1].tolist() == endless(COUNT, SEED, 6 * SIZE)
    batches.close()


@pytest.fixture
def streamed() -> Iterator[Streamed]:
    batches = Streamed(Held(IMAGES), SIZE, SEED, CPU, workers=2)
    yield batches
    batches.close()
    assert active_children() == []


def test_workers_change_no_batch_wherever_one_begins(streamed: Streamed) -> None:
    truth = InMemory(IMAGES, SIZE, SEED, CPU)
    generator = torch.get_rng_state()
    for parts in (1, 4):
        size = SIZE // parts
        for update in [*range(3, 9), *range(6, 9), 0]:
            for rows in (slice(i * size, (i + 1) * size) for i in range(parts)):
                assert torch.equal(streamed.at(update, rows), truth.at(update, rows))
    assert torch.equal(torch.get_rng_state(), generator)


def test_the_second_update_comes_from_workers(streamed: Streamed) -> None:
    for update in range(3):
        streamed.at(update, slice(4, 8))
        assert len(active_children()) == (0 if update == 0 else 2)
    streamed.close()
    assert active_children() == []


@dataclass(frozen=True)
class Crumbling:
    """A source one of whose images cannot be read any more."""

    bad: int
    shape: tuple[int, int, int] = (1, 2, 2)

    def __len__(self) -> int:
        return COUNT

    def read(self, index: Tensor) -> Tensor:
        if self.bad in index.tolist():
            raise InputError(f"picture {self.bad}: is gone")
        return IMAGES[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_gone_is_named_by_one_line(workers: int) -> None:
    bad = endless(COUNT, SEED, 3 * SIZE)[2 * SIZE]
    assert bad not in endless(COUNT, SEED, 2 * SIZE)
    batches = Streamed(Crumbling(bad), SIZE, SEED, CPU, workers)
    for update in range(2):
        batches.at(update, slice(None))
    with pytest.raises(InputError) as caught:
        batches.at(2, slice(None))
    batches.close()
    assert str(caught.value) == f"picture {bad}: is gone"


def test_a_killed_worker_is_one_line(streamed: Streamed) -> None:
    streamed.at(0, slice(None))
    streamed.at(1, slice(None))
    for child in active_children():
        os.kill(child.pid or 0, signal.SIGKILL)
    time.sleep(0.2)
    # What the workers had prepared before they died is still delivered, and the death of one
    # shows nowhere but in the next answer that is waited for.
    assert torch.equal(streamed.source.read(torch.tensor([3])), IMAGES[[3]])
    updates = (streamed.at(update, slice(None)) for update in range(2, 99))
    with pytest.raises(InputError, match="workers = 2: reading ahead failed") as caught:
        list(updates)
    assert "\n" not in str(caught.value)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal; a test in the background would inherit that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_workers_leave_control_c_to_the_trainer(streamed: Streamed) -> None:
    streamed.at(0, slice(None))
    streamed.at(1, slice(None))
    workers = active_children()
    for child in workers:
        os.kill(child.pid or 0, signal.SIGINT)
    for child in workers:
        child.join(0.2)
    assert [child.is_alive() for child in workers] == [True, True]
    streamed.at(2, slice(None))


def test_a_negative_number_of_workers_is_refused() -> None:
    with pytest.raises(InputError, match="workers = -1"):
        Streamed(Held(IMAGES), SIZE, SEED, CPU, -1)


def test_a_data_set_in_memory_or_streamed_gives_the_same_batches() -> None:
    data = ImageData("all", IMAGES.contiguous(), IMAGES[:3], None, None, 256)
    both = [batches_of(d, SIZE, SEED, CPU) for d in (data, streamed_from_memory(data))]
    assert [type(batches) for batches in both] == [InMemory, Streamed]
    for update in range(4):
        assert torch.equal(both[0].at(update, slice(2, 5)), both[1].at(update, slice(2, 5)))
    with pytest.raises(InputError, match="workers = -2"):
        batches_of(data, SIZE, SEED, CPU, -2)


def test_a_subset_is_read_in_its_own_order() -> None:
    subset = Subset(Held(IMAGES), torch.tensor([7, 2, 2, 20]))
    assert (len(subset), subset.shape) == (4, (1, 2, 2))
    assert subset.read(torch.tensor([3, 0]))[:, 0, 0, 0].tolist() == [20, 7]
    assert read_all(subset, 3)[:, 0, 0, 0].tolist() == [7, 2, 2, 20]
