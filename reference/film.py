r"""Parameters shared by the levels, scaled and shifted for each: FiLM on the parameters.

    \theta_{i,t-1} = \kappa_i(t-1) \theta_i + \delta_i(t-1),

where a perceptron makes all \kappa and \delta from the sinusoidal code of the level. It acts on the
parameters of a network, not on its activations.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, shaped_like
from .embedding import sinusoidal_embedding
from .mlp import Network, flat, forward, shaped


class FilmGradient(NamedTuple):
    """Gradients by the shared parameters, the scale and the shift, each (parameters,).  T-fn14."""

    theta: Array
    scale: Array
    shift: Array


def film(theta: ArrayLike, scale: ArrayLike, shift: ArrayLike) -> Array:
    """Parameters of one level, scale * theta + shift.  T-fn14.

    Args:
        theta: shared parameters, any shape.
        scale: kappa of the level, same shape; ones leave theta as it is.
        shift: delta of the level, same shape; zeros leave theta as it is.

    Raises:
        ValueError: the shapes differ.
    """
    shared = as_float(theta, "theta")
    return shaped_like(scale, shared, "scale") * shared + shaped_like(shift, shared, "shift")


def film_gradient(theta: ArrayLike, scale: ArrayLike, gradient: ArrayLike) -> FilmGradient:
    """Gradients of a loss through `film`: that by the scale is theta times the shift's.  T-fn14.

    Args:
        theta: shared parameters, any shape.
        scale: kappa of the level, same shape.
        gradient: gradient of the loss by the parameters of the level, same shape.

    Raises:
        ValueError: the shapes differ.
    """
    shared = as_float(theta, "theta")
    by_level = shaped_like(gradient, shared, "gradient")
    return FilmGradient(by_level * shaped_like(scale, shared, "scale"), by_level * shared, by_level)


def modulation(modulator: Network, level: float, dim: int) -> tuple[Array, Array]:
    """Scale and shift of all parameters at a level, from the code of the level.  T-fn14.

    Args:
        modulator: perceptron from the code to twice the number of parameters, scales first.
        level: the cleaner level t - 1 of the step that the parameters are for.
        dim: length of the code, even and positive.

    Raises:
        ValueError: the modulator does not take codes of that length, or its outputs are odd.
    """
    outputs = forward(modulator, sinusoidal_embedding([level], dim))[0]
    if outputs.size % 2:
        raise ValueError(f"modulator must have an even number of outputs, got {outputs.size}")
    scale, shift = np.split(outputs, 2)
    return scale, shift


def level_network(network: Network, modulator: Network, level: float, dim: int) -> Network:
    """The network of one level, made from a network shared by all.  T-fn14.

    Args:
        network: shared parameters.
        modulator: see `modulation`.
        level: the cleaner level t - 1.
        dim: length of the code.

    Raises:
        ValueError: the modulator does not have two outputs for each parameter.
    """
    return shaped(film(flat(network), *modulation(modulator, level, dim)), network)
