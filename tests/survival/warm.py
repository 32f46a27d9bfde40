"""What a process has done before it is forked into a run: imports, and two updates.

The compiled loops of the CPU are loaded at the first update, so every child begins with them.
"""

import torch
from sklearn.datasets import load_digits

import ddpm.cli
import ddpm.commands.train
from tests.ddpm.small import small_trainer

__all__ = ["ddpm"]

torch.set_num_threads(1)
load_digits()
_trainer = small_trainer()
_trainer.update()
_trainer.update()
