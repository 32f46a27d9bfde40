"""Whole sampling loops beside DDIMPipeline of `diffusers`: images a second, and the rest.

The same network drives both and equal results come first. Then each library has processes of its
own, in turns: what one does to its process, as to the allocator, is no help to the other. The time
outside the network is what a clock inside it leaves of the loop.

    python -m benchmarks.bench_sampling_loop --rounds 4 --processes 6
    pytest -s benchmarks/bench_sampling_loop.py
"""

import argparse
import multiprocessing
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import pytest
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.sampling_loops import EQUAL, Meter, Times, difference, loops, network
from ddpm.bench.assemble import OURS
from ddpm.bench.peer_calls import DIFFUSERS, missing

STEPS, BATCHES, ROUNDS, PROCESSES = 50, (1, 64), 4, 2

Result = TypeVar("Result")


def turn(library: str, batch: int, steps: int, rounds: int, threads: int) -> list[Times]:
    """Times of one library's loop in this process, after one loop that is not counted."""
    torch.set_num_threads(threads)
    model = network()
    loop = loops(model, batch, steps)[library]
    loop()
    meter = Meter(model)
    return [meter.time(loop) for _ in range(rounds)]


def outside(times: Times, steps: int) -> tuple[float, float]:
    """Microseconds of a step outside the network, on the wall and of the process."""
    wall, processor = times.wall - times.network_wall, times.processor - times.network_processor
    return 1e6 * wall / steps, 1e6 * processor / steps


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def faster(times: dict[str, list[Times]]) -> tuple[float, float]:
    """How often ours runs while theirs runs once: medians of the rounds, by either clock."""
    pairs = list(zip(times[DIFFUSERS], times[OURS], strict=True))
    return (
        median([theirs.wall / mine.wall for theirs, mine in pairs]),
        median([theirs.processor / mine.processor for theirs, mine in pairs]),
    )


def table_of(found: dict[int, dict[str, list[Times]]], steps: int, threads: int = 1) -> Table:
    table = Table(
        "images at once", "library", "images/s", "ms a step", "network, ms a step",
        "outside it, us a step", "the same, processor", "ours is faster by", "by processor",
        title=f"{steps} steps of DDIM, {threads} thread(s)",
    )  # fmt: skip
    for batch, times in found.items():
        ratios = faster(times)
        for name, rounds in times.items():
            wall = median([each.wall for each in rounds])
            inside = median([each.network_wall for each in rounds])
            spent = [outside(each, steps) for each in rounds]
            table.add_row(
                str(batch), name, f"{batch / wall:.2f}", f"{1e3 * wall / steps:.3f}",
                f"{1e3 * inside / steps:.3f}", f"{median([pair[0] for pair in spent]):.0f}",
                f"{median([pair[1] for pair in spent]):.0f}",
                *(f"{ratio:.3f}" if name == OURS else "" for ratio in ratios),
            )  # fmt: skip
    return table


def check_equal(batch: int, steps: int) -> None:
    """Make sure that both libraries draw the same pictures.

    Raises:
        RuntimeError: they do not, which would make the times worthless.
    """
    apart = difference(network(), batch, steps)
    if not apart < EQUAL:
        raise RuntimeError(f"results differ by {apart:.1e}: allowed is {EQUAL}")


def elsewhere(call: Callable[..., Result], *arguments: Any) -> Result:
    """What a call returns in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(call, *arguments).result()


def measure(
    batches: Sequence[int], steps: int, rounds: int, threads: int, processes: int
) -> dict[int, dict[str, list[Times]]]:
    """Times of both libraries, for each number of images at once, in so many processes each."""
    found: dict[int, dict[str, list[Times]]] = {}
    for batch in batches:
        elsewhere(check_equal, batch, steps)
        times = found.setdefault(batch, {OURS: [], DIFFUSERS: []})
        for number in range(processes):
            for library in (OURS, DIFFUSERS)[:: 1 if number % 2 else -1]:
                times[library] += elsewhere(turn, library, batch, steps, rounds, threads)
    return found


@pytest.mark.skipif(bool(missing(DIFFUSERS)), reason=f"{DIFFUSERS} {missing(DIFFUSERS)}")
@pytest.mark.parametrize("batch", BATCHES)
def test_a_loop_is_as_fast(benchmark: Any, batch: int) -> None:
    benchmark.group = f"{STEPS} steps of DDIM, {batch} at once"
    found = measure([batch], STEPS, ROUNDS, 1, PROCESSES)
    Console(width=160).print(table_of(found, STEPS))
    wall, processor = faster(found[batch])
    benchmark.extra_info.update(faster_wall=wall, faster_processor=processor)
    benchmark.pedantic(loops(network(), batch, STEPS)[OURS], rounds=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processes", type=int, default=PROCESSES, help="of each library")
    given = parser.parse_args()
    if reason := missing(DIFFUSERS):
        raise SystemExit(f"{DIFFUSERS} is {reason}")
    found = measure(given.batches, given.steps, given.rounds, given.threads, given.processes)
    Console(width=160).print(table_of(found, given.steps, given.threads))


if __name__ == "__main__":
    main()
