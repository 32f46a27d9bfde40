"""Settings of every test: kernels run in Triton's interpreter, torch on one thread."""

import os

# Triton reads this when a kernel is decorated, so it comes before any import of ours.
os.environ["TRITON_INTERPRET"] = "1"

import hypothesis
import torch

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")

# The tests run side by side, one process a core; more threads would only wait for each other.
torch.set_num_threads(1)
