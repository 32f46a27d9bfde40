"""One command line on several processes: torchrun with a flag."""

import os
import sys

from ddpm.errors import check

MAX_RANKS = 1024
RESTARTS = 3
"""Times that torchrun starts all ranks again after one has failed."""


def launch(ranks: int) -> None:
    """Become torchrun with this command line on some ranks; nothing for one, or under torchrun.

    Raises:
        InputError: the number is out of range, or there are ranks already.
    """
    check(1 <= ranks <= MAX_RANKS, "ranks", ranks, f"1 to {MAX_RANKS}")
    if ranks == 1:
        return
    check("RANK" not in os.environ, "ranks", ranks, "nothing under torchrun, which has its own")
    sys.stdout.flush()
    # Where the variable is not set, torchrun would give every rank one thread, and say so.
    share = max(1, len(os.sched_getaffinity(0)) // ranks)
    environment = {"OMP_NUM_THREADS": str(share), **os.environ}
    os.execve(sys.executable, torchrun(ranks, sys.argv[1:]), environment)


def torchrun(ranks: int, arguments: list[str]) -> list[str]:
    """The command line under torchrun.

    Args:
        ranks: How many.
        arguments: Those of `ddpm`, with the flag that asked for ranks.
    """
    kept = list[str]()
    given = iter(arguments)
    for argument in given:
        if argument == "--ranks":
            next(given)
        elif not argument.startswith("--ranks="):
            kept.append(argument)
    # torchrun would take a flag of ours for the beginning of one of its own; -- ends those.
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={ranks}", f"--max-restarts={RESTARTS}", "-m", "--", "ddpm", *kept,
    ]  # fmt: skip
