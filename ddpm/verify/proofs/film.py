"""Scaled and shifted parameters: gradients by complex steps, levels by hand."""

import numpy as np
from hypothesis import strategies as st

from ddpm.reference.film import film, film_gradient, level_network, modulation
from ddpm.reference.mlp import Layer, Network, flat, forward, initial, shaped
from ddpm.verify.evidence import Evidence
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators


@proof(
    "T-fn14",
    of=(film, film_gradient),
    oracle="complex steps through a loss of the level's parameters",
    given=(generators(), st.integers(1, 9)),
)
def gradients(evidence: Evidence, generator: np.random.Generator, size: int) -> None:
    """Scale and shift leave the parameters alone at one and zero, and their gradients are right."""
    theta, scale, shift, wave = generator.standard_normal((4, size))
    evidence.equal(film(theta, np.ones(size), np.zeros(size)), theta)
    got = film_gradient(theta, scale, wave * np.cos(wave * film(theta, scale, shift)))
    # A complex step takes no difference, so it can be as small as the square root of tiny.
    step = 1e-150j * np.eye(size)
    for name, moved in {
        "theta": scale * (theta + step) + shift,
        "scale": (scale + step) * theta + shift,
        "shift": scale * theta + (shift + step),
    }.items():
        want = np.sin(wave * moved).sum(axis=1).imag / 1e-150
        evidence.close(getattr(got, name), want, rtol=1e-12, atol=1e-14, what=name)
    evidence.close(got.scale, theta * got.shift, rtol=1e-15, what="ratio of the gradients")


@proof(
    "T-fn14",
    of=(level_network, modulation),
    oracle="one layer at a time, with the code written out",
    given=(generators(), st.integers(0, 1000)),
    examples=20,
)
def levels(evidence: Evidence, generator: np.random.Generator, level: int) -> None:
    """A perceptron of the level's code gives each parameter its own scale and shift."""
    network = initial((2, 3, 1), generator)
    network = shaped(generator.standard_normal(flat(network).size), network)
    count = 2 * 3 + 3 + 3 * 1 + 1
    modulator = initial((4, 5, 2 * count), generator)
    code = np.array([np.sin(level), np.sin(level / 100), np.cos(level), np.cos(level / 100)])
    outputs = np.maximum(code @ modulator[0].weight, 0) @ modulator[1].weight
    scale, shift = outputs[:count], outputs[count:]
    (w1, b1), (w2, b2) = network
    want = (
        Layer(w1 * scale[:6].reshape(2, 3) + shift[:6].reshape(2, 3), b1 * scale[6:9] + shift[6:9]),
        Layer(w2 * scale[9:12, None] + shift[9:12, None], b2 * scale[12:] + shift[12:]),
    )
    got = level_network(network, modulator, level, 4)
    x = generator.standard_normal((5, 2))
    evidence.close(forward(got, x), forward(want, x), rtol=1e-9, atol=1e-10, what="output")
    # The sine of a level near 1000 knows its argument to 1e-13.
    evidence.close(np.concatenate(modulation(modulator, level, 4)), outputs, rtol=1e-10, atol=1e-11)


@proof(
    "T-fn14",
    of=level_network,
    oracle="untied networks with parameters of their own",
    given=(generators(),),
    examples=10,
)
def untied_networks_are_a_case(evidence: Evidence, generator: np.random.Generator) -> None:
    """With one hidden unit for each level, any networks of the levels come from a shared one."""
    own = [initial((2, 1), generator) for _ in range(3)]
    shared = shaped(np.ones(3), own[0])
    modulator = interpolating(np.array([flat(network) for network in own]))
    x = generator.standard_normal((4, 2))
    for level, network in enumerate(own):
        got = level_network(shared, modulator, level, 2)
        evidence.close(forward(got, x), forward(network, x), rtol=1e-10, atol=1e-11)


def interpolating(rows: Array) -> Network:
    """A modulator without shifts whose scales at level k are row k, with a unit for each level."""
    levels = np.arange(len(rows), dtype=np.float64)
    codes = np.stack([np.sin(levels), np.cos(levels)], axis=1)
    products = codes @ codes.T
    # Each code is closest to itself, so with the second largest product as threshold only the
    # level's own unit is active.
    thresholds = np.sort(products, axis=0)[-2]
    outputs = np.hstack([rows, np.zeros_like(rows)])
    return (
        Layer(codes.T, -thresholds),
        Layer(
            np.linalg.solve(np.maximum(products - thresholds, 0), outputs),
            np.zeros(outputs.shape[1]),
        ),
    )
