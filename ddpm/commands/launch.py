"""One command line on several processes: torchrun with a flag."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from ddpm.errors import InputError, check

MAX_RANKS = 1024
RESTARTS = 3
"""Times that torchrun starts all ranks again after one has failed."""

REFUSAL = "DDPM_REFUSAL"
"""Names the file whose existence says that a rank has refused its input."""


def launch(ranks: int) -> None:
    """Run this command line on some ranks and end as they do; nothing for one, or under torchrun.

    A rank that fails is started again, and all others with it. One that refuses its input is not:
    it says why, and the command ends with code 2.

    Raises:
        InputError: the number is out of range, or there are ranks already.
    """
    check(1 <= ranks <= MAX_RANKS, "ranks", ranks, f"1 to {MAX_RANKS}")
    if ranks == 1:
        refused = os.environ.get(REFUSAL)
        if refused is not None and Path(refused).exists():
            sys.exit(0)
        return
    check("RANK" not in os.environ, "ranks", ranks, "nothing under torchrun, which has its own")
    # Where the variable is not set, torchrun would give every rank one thread, and say so.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // ranks)))
    with TemporaryDirectory(prefix="ddpm-") as folder:
        refusal = Path(folder) / "refused"
        os.environ[REFUSAL] = str(refusal)
        code = _run(torchrun(ranks, sys.argv[1:]))
        # This process is no rank: its code counts.
        del os.environ[REFUSAL]
        sys.exit(2 if refusal.exists() else code)


def refuse(error: InputError) -> NoReturn:
    """Say on one line what is wrong, and end with code 2.

    Of the ranks that `launch` started the first says it, and all end with code 0, as `launch` tells
    the rest: with another code torchrun would start them again, to hear the same.
    """
    refusal = os.environ.get(REFUSAL)
    if refusal is None or error.passing:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    with suppress(FileExistsError):
        Path(refusal).touch(exist_ok=False)
        print(f"error: {error}", file=sys.stderr)
    leave(2)


def leave(code: object) -> NoReturn:
    """End with a code, as a rank that leaves it to another to say what is wrong ends with 2."""
    sys.exit(0 if REFUSAL in os.environ and code == 2 else code)  # type: ignore[arg-type]


def torchrun(ranks: int, arguments: list[str]) -> list[str]:
    """Arguments of torchrun for a command line.

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
        "--standalone", f"--nproc-per-node={ranks}", f"--max-restarts={RESTARTS}",
        "-m", "--", "ddpm", *kept,
    ]  # fmt: skip


def _run(arguments: list[str]) -> int:
    """Exit code of torchrun, whose ranks have said themselves what became of them."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    try:
        main(arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        how = f"rank {rank} ended with code {failure.exitcode}"
        print(f"error: {how}, and so did {RESTARTS} restarts", file=sys.stderr)
        return 1
    except SignalException as stop:
        return 128 + stop.sigval
    return 0
