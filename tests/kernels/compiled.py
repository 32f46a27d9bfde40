"""The text that Triton compiles for a card, from a process that does not interpret kernels."""

import os
import subprocess
import sys


def ptx(module: str, call: str) -> str:
    """Compile the first kernel that a launcher launches on an H100.

    Args:
        module: name of a module in `ddpm.kernels.gpu`.
        call: a call of its launcher; `torch` is at hand.

    Returns:
        Its PTX.
    """
    program = (
        "import torch\n"
        f"from ddpm.kernels.gpu import dry_run, {module}\n"
        f"launched = dry_run.dry_run('sm_90', lambda: {call})\n"
        "print(launched.kernels[0].assembly['ptx'])\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
