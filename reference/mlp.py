r"""A multilayer perceptron, forward and backward by hand.

    h_0 = x,  h_k = \max(0, h_{k-1} W_k + b_k) for k < L,  y = h_{L-1} W_L + b_L.

The VAE's encoder and decoder have one hidden layer of 500 units; the network that modulates shared
parameters by the level is of the same kind.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float

HIDDEN = 500


class Layer(NamedTuple):
    """Weight (inputs, outputs) and bias (outputs,) of an affine map.  L-1-arch."""

    weight: Array
    bias: Array


Network = tuple[Layer, ...]


def initial(sizes: Sequence[int], generator: np.random.Generator) -> Network:
    """Random network: weights of variance 2 / inputs, biases zero.  L-1-arch, T-fn14.

    Args:
        sizes: widths of the input, the hidden layers and the output, each at least 1.
        generator: source of the weights.

    Raises:
        ValueError: fewer than two widths, or one below 1.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must hold at least two widths of at least 1, got {sizes}")
    return tuple(
        Layer(generator.standard_normal((m, n)) * np.sqrt(2 / m), np.zeros(n))
        for m, n in pairwise(sizes)
    )


def activations(network: Network, x: ArrayLike) -> list[Array]:
    """Input, hidden activations and output of a network, h_0..h_L.  L-1-arch.

    Args:
        network: its layers.
        x: shape (batch, inputs).

    Raises:
        ValueError: x does not have the shape (batch, inputs).
    """
    values = as_float(x, "x")
    inputs = network[0].weight.shape[0]
    if values.ndim != 2 or values.shape[1] != inputs:
        raise ValueError(f"x must have shape (batch, {inputs}), got {values.shape}")
    trace = [values]
    for layer in network[:-1]:
        trace.append(np.maximum(trace[-1] @ layer.weight + layer.bias, 0.0))
    return [*trace, trace[-1] @ network[-1].weight + network[-1].bias]


def forward(network: Network, x: ArrayLike) -> Array:
    """Output of a network, shape (batch, outputs), linear in its last layer.  L-1-arch, T-fn14.

    Args:
        network: its layers.
        x: shape (batch, inputs).
    """
    return activations(network, x)[-1]


def backward(network: Network, trace: list[Array], gradient: Array) -> tuple[Network, Array]:
    """Gradients of a scalar by the parameters, summed over the batch, and by x.  L-1-arch.

    A unit at its kink passes nothing on.

    Args:
        network: its layers.
        trace: the activations of a forward pass.
        gradient: gradient by the output, shape (batch, outputs).

    Returns:
        The gradient by each layer, and by the input, shape (batch, inputs).
    """
    layers: list[Layer] = []
    gradient = as_float(gradient, "gradient")
    for layer, before in zip(reversed(network), reversed(trace[:-1]), strict=True):
        layers.insert(0, Layer(before.T @ gradient, gradient.sum(axis=0)))
        by_input = gradient @ layer.weight.T
        # Below the first layer there is no kink, and the masked gradient is not used.
        gradient = by_input * (before > 0)
    return tuple(layers), by_input


def flat(network: Network) -> Array:
    """All parameters in one vector, layer by layer, weights before biases.  T-fn14."""
    return np.concatenate([part.ravel() for layer in network for part in layer])


def shaped(vector: ArrayLike, network: Network) -> Network:
    """The network whose parameters are a vector, shaped like another network.  T-fn14.

    Args:
        vector: shape (parameters,), in the order of `flat`.
        network: what to be shaped like.

    Raises:
        ValueError: the network does not have as many parameters.
    """
    values, parts = as_float(vector, "vector"), [part for layer in network for part in layer]
    ends = np.cumsum([part.size for part in parts])
    if values.shape != (ends[-1],):
        raise ValueError(f"vector must have shape ({ends[-1]},), got {values.shape}")
    pieces = [
        piece.reshape(part.shape)
        for piece, part in zip(np.split(values, ends[:-1]), parts, strict=True)
    ]
    return tuple(Layer(*pair) for pair in zip(pieces[::2], pieces[1::2], strict=True))
