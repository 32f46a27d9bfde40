"""Ranks of one start find each other in a store that holds what earlier starts left there."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from torch import distributed as dist
from torch.distributed.distributed_c10d import Store

from ddpm import rendezvous
from ddpm.rendezvous import store_of_this_start
from ddpm.runs.checkpoint import checkpoints
from tests.cli.command import SMALL
from tests.distributed.test_torchrun import ranks_of
from tests.distributed.together import free_port

SOON = timedelta(seconds=30)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store that every start of a job is given, as by an agent that outlives the ranks."""
    store: Store = dist.HashStore()  # type: ignore[attr-defined]
    monkeypatch.setattr(rendezvous, "rendezvous", lambda *_, **__: iter([(store,)]))
    return store


def start(world: int, late: int | None = None) -> list[Store]:
    """The stores of all ranks, which come in any order; one may come after all others."""
    order = [rank for rank in random.Random(world).sample(range(world), world) if rank != late]
    with ThreadPoolExecutor(world) as pool:
        found = {rank: pool.submit(store_of_this_start, rank, world, SOON) for rank in order}
        if late is not None:
            time.sleep(0.2)
            assert late == 0 or not found[0].done()
            found[late] = pool.submit(store_of_this_start, late, world, SOON)
        return [found[rank].result(60) for rank in range(world)]


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("world", [2, 5])
def test_no_start_finds_the_addresses_of_another(world: int) -> None:
    for late in (None, None, 1, 0):
        stores = start(world, late)
        for rank, store in enumerate(stores):
            assert not store.check([f"address of {rank}"])
            store.set(f"address of {rank}", str(late))
        for store in stores:
            assert store.get(f"address of {world - 1}") == str(late).encode()


def test_ranks_that_were_gone_before_the_others_came(kept: Store) -> None:
    """Starts of which only a part was ever there leave greetings that nobody answers any more."""
    with pytest.raises(dist.DistStoreError, match=r"ranks \[1, 2\] did not come within 0:00:00.1"):
        store_of_this_start(0, 3, timedelta(seconds=0.1))
    kept.set_timeout(timedelta(seconds=0.1))
    for rank in (1, 2, 2):
        with pytest.raises(dist.DistStoreError):
            store_of_this_start(rank, 3, SOON)
    kept.set_timeout(SOON)
    start(3, late=2)[2].set("here", "yes")
    assert not start(3)[0].check(["here"])


def agent(port: int, run: Path) -> subprocess.Popen[str]:
    """What one of two machines is told, as docs/training.md has it."""
    launch = ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3"]
    launch += ["--rdzv-backend", "c10d", "--rdzv-id", "mine"]
    launch += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--monitor-interval", "0.1"]
    command = ["train", "--run", str(run), "--steps", "30", "--device", "cpu", *SMALL]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *launch, "-m", "--", "ddpm", *command,
         "--checkpoint-every", "10"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_two_machines_go_on_after_a_kill(tmp_path: Path) -> None:
    run, port = tmp_path / "run", free_port()
    agents = [agent(port, run) for _ in range(2)]
    try:
        while not checkpoints(run / "checkpoints"):
            assert all(one.poll() is None for one in agents), [one.communicate() for one in agents]
            time.sleep(0.02)
        os.kill(ranks_of(agents[1].pid)[0], signal.SIGKILL)
        said = [one.communicate(timeout=200)[0] for one in agents]
    finally:
        for one in agents:
            one.terminate()
    assert [one.returncode for one in agents] == [0, 0], said
    assert (run / "checkpoints" / "step-30" / "checkpoint.json").exists()
