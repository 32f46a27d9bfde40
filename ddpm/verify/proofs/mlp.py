"""The network's forward pass unit by unit, its gradient by differences."""

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from ddpm.reference.mlp import Network, activations, backward, flat, forward, initial, shaped
from ddpm.verify.evidence import Evidence
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators

# A central difference over 1e-5 errs by 1e-10 of the third derivative and by rounding / 1e-5.
STEP = 1e-5
RELATIVE = 1e-6


def random_network(generator: np.random.Generator, *sizes: int) -> Network:
    """A network with random biases as well."""
    network = initial(sizes, generator)
    return shaped(flat(network) + 0.3 * generator.standard_normal(flat(network).size), network)


def unit_by_unit(network: Network, x: Array) -> list[float]:
    """Output for one sample, one product at a time."""
    values = [float(value) for value in x]
    for number, (weight, bias) in enumerate(network, start=1):
        sums = [
            sum(float(v) * float(w) for v, w in zip(values, column, strict=True)) + float(b)
            for column, b in zip(weight.T, bias, strict=True)
        ]
        values = sums if number == len(network) else [s if s > 0 else 0.0 for s in sums]
    return values


@proof(
    "L-1-arch",
    of=(forward, activations, initial),
    oracle="the sum of each unit, one product at a time",
    given=(generators(), st.lists(st.integers(1, 7), min_size=2, max_size=4)),
)
def units(evidence: Evidence, generator: np.random.Generator, sizes: list[int]) -> None:
    """Every unit is the positive part of its weighted sum, but those of the last layer."""
    network = random_network(generator, *sizes)
    x = generator.standard_normal((3, sizes[0]))
    want = [unit_by_unit(network, row) for row in x]
    evidence.close(forward(network, x), np.array(want), rtol=1e-12, atol=1e-13)


@proof(
    "L-1-arch",
    of=(backward, activations),
    oracle="central differences in random directions, away from the kinks",
    given=(generators(), st.lists(st.integers(1, 7), min_size=2, max_size=4)),
)
def gradients(evidence: Evidence, generator: np.random.Generator, sizes: list[int]) -> None:
    """The gradients by all parameters and by the input give every directional derivative."""
    network = random_network(generator, *sizes)
    x, weight = generator.standard_normal((3, sizes[0])), generator.standard_normal((3, sizes[-1]))
    by_network, by_x = backward(network, activations(network, x), weight)
    along, along_x = (
        generator.standard_normal(flat(network).size),
        generator.standard_normal(x.shape),
    )
    ends = [(shaped(flat(network) + h * along, network), x + h * along_x) for h in (STEP, -STEP)]
    masks = [[part > 0 for part in activations(*end)[1:-1]] for end in ends]
    assume(all(np.array_equal(*pair) for pair in zip(*masks, strict=True)))
    high, low = (np.sum(weight * forward(*end)) for end in ends)
    got = flat(by_network) @ along + np.sum(by_x * along_x)
    scale = 1 + float(np.linalg.norm(flat(by_network)) + np.linalg.norm(by_x))
    evidence.close(got, (high - low) / (2 * STEP), rtol=RELATIVE, atol=RELATIVE * scale)
