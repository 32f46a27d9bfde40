"""A run means the same on one rank and on many, by DDP and by FSDP, and resumes on any."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm.data.images import to_float
from ddpm.data.order import permutation
from ddpm.distributed import ALONE, Ranks
from ddpm.errors import InputError
from ddpm.kernels.streams import Stream
from ddpm.keys import Key, draw_levels
from ddpm.processes.choose import diffusion_of
from ddpm.runs import checkpoint
from ddpm.training.averaged import averaged_network
from ddpm.training.trainer import Trainer
from tests.ddpm.small import IMAGES
from tests.distributed import work
from tests.distributed.together import together
from tests.distributed.work import BATCH, STEPS, Plan, Trace

HALF = STEPS // 2
MORE = 8
TOLD = 40
"""Updates after most of which levels follow the losses of all ranks."""
"""Updates after a resumption."""

# The losses are of order one and their sums are ordered differently: a few units in the last place
# of float32 an update, which these well-conditioned updates do not amplify.
LOSS = 2e-6
WEIGHT = 5e-5


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    folder = tmp_path_factory.mktemp("alone")
    return work.train(ALONE, Plan(save=(HALF, folder)))


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where runs by DDP and FSDP on two ranks save their state half-way."""
    return {name: tmp_path_factory.mktemp(name) for name in ("ddp", "fsdp")}


@pytest.fixture(scope="module")
def two(halves: dict[str, Path]) -> dict[str, list[Trace]]:
    """Traces of two ranks: whole runs, and runs that go on from half-way, in one job."""
    plans = {
        name: Plan(name, save=(HALF, folder)) for name, folder in halves.items()
    } | {
        f"{name} again": Plan(name, begin=folder / f"step-{HALF}", updates=MORE)
        for name, folder in halves.items()
    } | {
        "ddp in parts": Plan("ddp", accumulation=2, updates=MORE),
        "ddp told": Plan("ddp", accumulation=2, updates=TOLD, told=True),
    }  # fmt: skip
    results = together(2, work.train_all, list(plans.values()))
    return {name: [rank[i] for rank in results] for i, name in enumerate(plans)}


@pytest.fixture(scope="module")
def four(halves: dict[str, Path], two: dict[str, list[Trace]]) -> dict[str, list[Trace]]:
    """Traces of four ranks, among them runs that two ranks began."""
    assert two
    plans = {"ddp": Plan("ddp"), "fsdp": Plan("fsdp")} | {
        f"{before} to {after}": Plan(after, begin=halves[before] / f"step-{HALF}", updates=MORE)
        for before in halves
        for after in halves
    }
    results = together(4, work.train_all, list(plans.values()))
    return {name: [rank[i] for rank in results] for i, name in enumerate(plans)}


def assert_like(trace: Trace, alone: Trace, first: int = 0) -> None:
    expected = np.array(alone.losses[first : first + len(trace.losses)])
    worst = np.abs(np.array(trace.losses) - expected).max()
    assert worst <= LOSS, f"losses differ by {worst}"
    norms = np.array(alone.norms[first : first + len(trace.norms)])
    np.testing.assert_allclose(trace.norms, norms, rtol=1e-4)


def assert_same_weights(trace: Trace, alone: Trace) -> None:
    assert trace.weights.keys() == alone.weights.keys()
    far = {n: np.abs(x - trace.weights[n]).max() for n, x in alone.weights.items()}
    assert max(far.values()) <= WEIGHT, max(far.items(), key=lambda item: item[1])


def test_one_rank_with_parts_is_one_rank(alone: Trace) -> None:
    trace = work.train(ALONE, Plan(accumulation=4))
    assert_like(trace, alone)
    assert_same_weights(trace, alone)
    assert_same_inputs([trace], alone, parts=4)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_are_one(alone: Trace, two: dict[str, list[Trace]], parallel: str) -> None:
    assert_like(two[parallel][0], alone)
    assert_same_weights(two[parallel][0], alone)
    assert_same_inputs(two[parallel], alone)
    assert two[parallel][0].losses == two[parallel][1].losses
    assert two[parallel][0].norms == two[parallel][1].norms


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_four_ranks_are_one(alone: Trace, four: dict[str, list[Trace]], parallel: str) -> None:
    assert_like(four[parallel][0], alone)
    if len(four[parallel][0].losses) == STEPS:
        assert_same_weights(four[parallel][0], alone)
    assert_same_inputs(four[parallel], alone)


def test_two_ranks_with_two_parts_each_are_one(alone: Trace, two: dict[str, list[Trace]]) -> None:
    assert_like(two["ddp in parts"][0], alone)
    assert_same_inputs(two["ddp in parts"], alone, parts=2)


def test_levels_follow_the_losses_of_all_ranks(two: dict[str, list[Trace]]) -> None:
    """And classes stay with their images, the same ones hidden."""
    alone = work.train(ALONE, Plan(updates=TOLD, told=True))
    assert_like(two["ddp told"][0], alone)
    assert_same_inputs(two["ddp told"], alone, parts=2)
    counts = np.bincount(np.concatenate([t for _, t in alone.seen[-20:]]), minlength=5)
    # Uniform levels would give a chi-square of 3 degrees of freedom; it exceeds 16.3 once in 1000.
    even = 20 * BATCH / 4
    assert ((counts[1:] - even) ** 2 / even).sum() > 16.3, counts


def assert_same_inputs(traces: list[Trace], alone: Trace, parts: int = 1) -> None:
    """The network sees the same noisy images and levels, bit for bit, whoever computes them."""
    updates = len(traces[0].seen) // parts
    assert updates >= 3
    for update in range(updates):
        seen = [
            part for trace in traces for part in trace.seen[update * parts : (update + 1) * parts]
        ]
        for mine, whole in zip(zip(*seen, strict=True), alone.seen[update], strict=True):
            assert np.array_equal(np.concatenate(mine), whole)


def test_what_one_rank_sees_is_drawn_for_the_place_in_the_batch(alone: Trace) -> None:
    """Derived without the trainer: image, level and noise of every row of the first update."""
    rows = permutation(len(IMAGES), 0, 0, Stream.DATA_ORDER)[:BATCH]
    x, key = to_float(IMAGES[rows], 17), Key.of(0, range(BATCH), 0)
    t = draw_levels(key, 20)
    diffusion = diffusion_of(work.config())
    assert np.array_equal(alone.seen[0][1], t.numpy())
    assert np.array_equal(alone.seen[0][0], diffusion.q_sample(x, t, key=key).numpy())


def test_by_fsdp_a_rank_holds_its_part_of_the_weights(
    alone: Trace, two: dict[str, list[Trace]], four: dict[str, list[Trace]]
) -> None:
    whole = alone.own
    assert [trace.own for trace in two["ddp"]] == [whole] * 2
    for traces in (two["fsdp"], four["fsdp"]):
        assert sum(trace.own for trace in traces) == whole
        assert max(trace.own for trace in traces) < 1.2 * whole / len(traces)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_go_on_bit_by_bit(two: dict[str, list[Trace]], parallel: str) -> None:
    again = two[f"{parallel} again"][0]
    assert again.losses == two[parallel][0].losses[HALF : HALF + MORE]


@pytest.mark.parametrize("before", ["ddp", "fsdp"])
@pytest.mark.parametrize("after", ["ddp", "fsdp"])
def test_four_ranks_go_on_with_what_two_began(
    alone: Trace, four: dict[str, list[Trace]], before: str, after: str
) -> None:
    assert_like(four[f"{before} to {after}"][0], alone, HALF)


@pytest.mark.parametrize("before", ["ddp", "fsdp"])
def test_one_rank_goes_on_with_what_two_began(
    alone: Trace, two: dict[str, list[Trace]], halves: dict[str, Path], before: str
) -> None:
    assert two
    begin = halves[before] / f"step-{HALF}"
    assert_like(work.train(ALONE, Plan(begin=begin, updates=MORE)), alone, HALF)


def test_a_sharded_checkpoint_holds_shards_and_reads_as_a_whole(
    two: dict[str, list[Trace]], halves: dict[str, Path]
) -> None:
    assert two
    shards, plain = (halves[name] / f"step-{HALF}" for name in ("fsdp", "ddp"))
    manifest = checkpoint.verify(shards)
    assert manifest.parts == ("ema", "ema-0.5", "model", "optimiser")
    assert sum(name.startswith("model/") for name in manifest.sums) == 2
    assert not [
        p for p in shards.rglob("*") if p.is_file() and p.suffix not in (".json", ".safetensors")
    ]
    one, other = checkpoint.load(shards), checkpoint.load(plain)
    for part in manifest.parts:
        assert one.tensors[part].keys() == other.tensors[part].keys()
        for name, x in one.tensors[part].items():
            torch.testing.assert_close(x, other.tensors[part][name], rtol=0, atol=WEIGHT)
    model = averaged_network(work.config(), shards, torch.device("cpu"), "ema-0.5")
    assert torch.equal(model.state_dict()["stem.weight"], one.tensors["ema-0.5"]["stem.weight"])


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    ranks = Ranks(0, 3, 0)
    with pytest.raises(InputError, match="batch_size = 8: allowed is a multiple of 3, for 3 ranks"):
        Trainer(work.config(), IMAGES, torch.device("cpu"), ranks)
    halved = replace(work.config(2), batch_size=6)
    with pytest.raises(InputError, match="a multiple of 4, for 2 ranks with 2 part"):
        Trainer(halved, IMAGES, torch.device("cpu"), Ranks(0, 2, 0))
