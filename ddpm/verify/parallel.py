"""Run many proofs over several processes, yielding results as they come."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from ddpm.verify.registry import PROOFS, load
from ddpm.verify.runner import Result, run

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_all(
    names: Sequence[str], *, jobs: int = 1, seed: int = 0, examples: int | None = None
) -> Iterator[Result]:
    """Run proofs by name; the order of the results is that in which they end.

    Args:
        names: names of registered proofs.
        jobs: processes to use, at least 1; with 1 everything runs in this one.
        seed: other examples for another seed.
        examples: number of examples of each, the proof's own if None.
    """
    if jobs == 1:
        yield from (run(PROOFS[name], seed=seed, examples=examples) for name in names)
        return
    # Processes that start afresh share no state, and each computes on the one core it is given.
    os.environ.update({name: "1" for name in THREADS if name not in os.environ})
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=load) as pool:
        waiting = [pool.submit(_run, name, seed, examples) for name in names]
        for done in as_completed(waiting):
            yield done.result()


def _run(name: str, seed: int, examples: int | None) -> Result:
    return run(PROOFS[name], seed=seed, examples=examples)
