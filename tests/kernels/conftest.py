"""The kernels of these tests run in Triton's interpreter, on CPU tensors."""

import os

# Triton reads this when a kernel is decorated, so it comes before any import of ours.
os.environ["TRITON_INTERPRET"] = "1"
