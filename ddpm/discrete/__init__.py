"""Discrete diffusion of grey levels, D3PM with uniform and absorbing noise."""

from ddpm.discrete.process import DiscreteDiffusion as DiscreteDiffusion
from ddpm.discrete.process import Transition as Transition
