"""A line of metrics, and the same numbers wherever they go."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ddpm.distributed import Ranks
from ddpm.evaluation.figures import sample_grid
from ddpm.runs.environment import sessions
from ddpm.runs.metrics import BUCKETS, Metrics, bucket_names, bucket_sums
from ddpm.runs.run_folder import RunFolder
from tests.ddpm.small import IMAGES, small_config

TOTAL = small_config().schedule.levels


@dataclass(frozen=True, eq=False)
class Update:
    step: int
    losses: Tensor
    levels: Tensor
    gradient_norm: Tensor = field(default_factory=lambda: torch.tensor(0.25))
    learning_rate: float = 0.125

    @property
    def loss(self) -> Tensor:
        return self.losses.mean()


def update(step: int, pairs: Sequence[tuple[int, float]], norm: float = 0.25) -> Update:
    """An update whose images had these levels and losses."""
    levels, losses = zip(*pairs, strict=True)
    return Update(step, torch.tensor(losses), torch.tensor(levels), torch.tensor(norm))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.create(small_config())
    return run


def lines(folder: RunFolder) -> list[dict[str, object]]:
    def refuse(word: str) -> object:
        raise AssertionError(f"{word} is no JSON")

    text = folder.metrics_file.read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def part(level: int, total: int) -> int:
    """Which of eight equal parts of 0..T a level's unit interval begins in."""
    edges = [Fraction(k * total, 8) for k in range(9)]
    return next(k for k in range(8) if edges[k] <= level - 1 < edges[k + 1])


@given(st.data(), st.integers(1, 600))
def test_losses_are_told_apart_by_level(data: st.DataObject, total: int) -> None:
    pair = st.tuples(st.integers(1, total), st.integers(0, 1000).map(lambda n: n / 8))
    pairs = data.draw(st.lists(pair, min_size=1, max_size=20))
    expected = np.zeros((2, 8))
    for level, loss in pairs:
        expected[:, part(level, total)] += (loss, 1)
    given_levels, losses = zip(*pairs, strict=True)
    sums = bucket_sums(torch.tensor(losses), torch.tensor(given_levels), total)
    np.testing.assert_array_equal(sums.numpy(), expected)


@given(st.integers(1, 600))
def test_the_names_of_buckets_say_which_levels_they_hold(total: int) -> None:
    names = bucket_names(total)
    assert len(set(names)) == BUCKETS
    said: dict[int, int] = {}
    for bucket, name in enumerate(names):
        first, last = name.split("-")
        if first != "none":
            said |= dict.fromkeys(range(int(first), int(last) + 1), bucket)
    assert said == {t: part(t, total) for t in range(1, total + 1)}


def test_one_spoilt_loss_spoils_its_own_bucket_alone() -> None:
    sums = bucket_sums(torch.tensor([1.0, math.inf]), torch.tensor([1, 8]), 8)
    assert sums[0].tolist() == [1.0, *[0.0] * 6, math.inf]


def test_a_line_holds_what_was_seen_since_the_line_before(folder: RunFolder) -> None:
    with Metrics(folder, 0) as metrics:
        for one in (update(1, [(1, 1.0), (20, 5.0)]), update(2, [(2, 3.0), (9, 8.0)])):
            metrics.observe(one)
        metrics.write(one, 4.0, 2, 0.5)
        other = update(3, [(20, 7.0), (20, 9.0)])
        metrics.observe(other)
        metrics.write(other, 5.0, 2, 0.75)
    first, second = lines(folder)
    assert first["loss_by_level"] == [2.0, None, None, 8.0, None, None, None, 5.0]
    assert second["loss_by_level"] == [*[None] * 7, 8.0]
    assert (first["loss"], second["loss"]) == (5.5, 8.0)
    assert (first["ema_decay"], second["ema_decay"]) == (0.5, 0.75)
    assert (first["gradient_norm"], first["learning_rate"]) == (0.25, 0.125)
    # Two updates of two images in four seconds, then one in one second.
    assert (first["images_per_second"], second["images_per_second"]) == (1.0, 2.0)


def test_a_line_needs_neither_levels_nor_averages(folder: RunFolder) -> None:
    with Metrics(folder, 0) as metrics:
        metrics.write(update(20, [(1, 0.5)]), 2.0, 7)
    (line,) = lines(folder)
    assert line["step"] == 20
    assert line["loss"] == 0.5
    assert line["images_per_second"] == 70.0
    assert line["ema_decay"] is None


def test_what_is_not_finite_is_null(folder: RunFolder) -> None:
    with Metrics(folder, 0) as metrics:
        one = update(1, [(1, 1.0), (20, math.nan)], norm=math.inf)
        metrics.observe(one)
        metrics.write(one, 1.0, 2)
    (line,) = lines(folder)
    assert line["gradient_norm"] is None
    assert line["loss"] is None
    assert line["loss_by_level"] == [1.0, *[None] * 7]


def board(folder: RunFolder) -> EventAccumulator:
    return EventAccumulator(str(folder.tensorboard)).Reload()


def test_tensorboard_shows_the_numbers_of_the_lines(folder: RunFolder) -> None:
    with Metrics(folder, 0) as metrics:
        for step in (1, 2):
            one = update(step, [(1, 0.5 * step), (20, 4.0)])
            metrics.observe(one)
            metrics.write(one, float(step), 2, 0.5)
    events, read = board(folder), lines(folder)
    for name in ("loss", "gradient_norm", "learning_rate", "ema_decay", "images_per_second"):
        assert [(e.step, e.value) for e in events.Scalars(name)] == [
            (line["step"], line[name]) for line in read
        ]
    # Twenty levels: the first of eight parts is 1 to 3, the last 19 and 20.
    assert [e.value for e in events.Scalars("loss_by_level/t_1-3")] == [0.5, 1.0]
    assert [e.value for e in events.Scalars("loss_by_level/t_19-20")] == [4.0, 4.0]
    assert sum("loss_by_level" in tag for tag in events.Tags()["scalars"]) == 2


def test_a_resumed_run_takes_the_place_of_what_it_repeats(folder: RunFolder) -> None:
    with Metrics(folder, 0) as metrics:
        for step in (1, 2, 3):
            metrics.write(update(step, [(1, 1.0)]), float(step), 1)
    with Metrics(folder, 1) as metrics:
        metrics.write(update(2, [(1, 2.0)]), 2.0, 1)
    assert [(e.step, e.value) for e in board(folder).Scalars("loss")] == [(1, 1.0), (2, 2.0)]


def test_samples_become_a_picture_in_the_run_and_on_the_board(
    folder: RunFolder, tmp_path: Path
) -> None:
    with Metrics(folder, 0) as metrics:
        metrics.pictures(500, IMAGES)
    sample_grid(tmp_path / "expected.png", IMAGES, 17)
    expected = Image.open(tmp_path / "expected.png")
    written = Image.open(folder.samples / "progress" / "00000500.png")
    np.testing.assert_array_equal(np.asarray(written), np.asarray(expected))
    (event,) = board(folder).Images("samples")
    assert (event.step, event.width, event.height) == (500, *expected.size)


class OneOfTwo(Ranks):
    """A rank beside another, whose sums are known."""

    def total(self, x: Tensor) -> Tensor:
        return x + bucket_sums(torch.tensor([3.0]), torch.tensor([1]), TOTAL)


def test_ranks_add_up_and_the_first_alone_writes(folder: RunFolder) -> None:
    before = sorted(p.name for p in folder.path.iterdir())
    one = update(1, [(1, 1.0)])
    for rank in (1, 0):
        assert sorted(p.name for p in folder.path.iterdir()) == before
        with Metrics(folder, 0) as metrics:
            metrics.observe(one)
            metrics.write(one, 1.0, 2, 0.0, OneOfTwo(rank=rank, world=2))
    (line,) = lines(folder)
    assert line["loss_by_level"] == [2.0, *[None] * 7]
    known = sessions(folder)
    assert known is not None
    assert [session.ranks for session in known] == [2]


def test_observing_never_waits_for_the_device(folder: RunFolder) -> None:
    metrics = Metrics(folder, 0)
    assert metrics.config.schedule.levels == TOTAL
    with FakeTensorMode():
        # A tensor without content cannot be read, so a read would raise.
        metrics.observe(Update(1, torch.empty(7), torch.ones(7, dtype=torch.int64)))
        metrics.observe(Update(2, torch.empty(7), torch.ones(7, dtype=torch.int64)))
    assert metrics.sums is not None
    assert metrics.sums.shape == (2, BUCKETS)
