"""The static laboratory's rows for all tests of a session: compiled once, whatever the workers."""

import json
import os
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

Row = dict[str, Any]

_CODE = """
import json, sys
from ddpm.bench.static import rows

if __name__ == "__main__":
    with open(sys.argv[1], "w") as file:
        json.dump(rows(), file)
"""


def static_rows(factory: pytest.TempPathFactory) -> list[Row]:
    """Give the rows; the first worker of a session compiles, in a process of its own."""
    base = factory.getbasetemp()
    return _rows(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


def compiling_environment() -> dict[str, str]:
    """Give an environment in which Triton compiles; in the tests' own it interprets."""
    return {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}


@lru_cache(maxsize=1)
def _rows(folder: Path) -> list[Row]:
    result, failure = folder / "static.json", folder / "static.failed"
    try:
        os.close(os.open(folder / "static.lock", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        while not result.exists():
            assert not failure.exists(), failure.read_text()
            time.sleep(0.5)
    else:
        script, written = folder / "static.py", folder / "static.part"
        script.write_text(_CODE)
        command = [sys.executable, str(script), str(written)]
        root = str(Path(__file__).parents[2])
        environment = compiling_environment() | {"PYTHONPATH": root}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            failure.write_text(done.stderr)
        assert done.returncode == 0, done.stderr
        written.rename(result)
    rows: list[Row] = json.loads(result.read_text())
    return rows
