r"""How near a noising chain comes to what one asks of it: simple noise at the end, simple steps.

For data of a Gaussian mixture both are integrals over the line, in nats:
KL(q(x_T) || N(0, 1)), and the expected KL of q(x_s | x_t) to the normal law of its moments.
"""

from collections.abc import Callable

import numpy as np

from .arrays import Array
from .chain import Chain
from .mixture import Mixture

# A standard normal grid: 12 deviations hold all but 4e-33, and steps of 0.02 resolve a component
# ten times narrower than its neighbour.
_REACH = 12.0
_NODES = np.linspace(-_REACH, _REACH, 1201)
_MASSES = np.exp(-(_NODES**2) / 2) / np.sqrt(2 * np.pi) * (_NODES[1] - _NODES[0])


def terminal_kl(data: Mixture, chain: Chain) -> float:
    """KL(q(x_T) || N(0, 1)) in nats.  T-2.1-lim, T-fn11, K-2.1, G-11.

    Args:
        data: law of the data.
        chain: the noising chain.
    """
    end = at_level(data, chain, chain.steps)
    return _expectation(
        end, lambda x: end.log_density(x, 1.0, 0.0) + (x**2 + np.log(2 * np.pi)) / 2
    )


def reverse_step_kl(data: Mixture, chain: Chain, s: int, t: int) -> float:
    """Mean over x_t of KL(q(x_s | x_t) || N(its mean, its variance)).  T-fn11, T-fn17, V-3-joint.

    It is E log(2 pi e Var(x_s | x_t)) / 2 less the conditional entropy of x_s given x_t, which is
    h(x_s) + h(x_t | x_s) - h(x_t). The differences leave an absolute error of about 1e-13.

    Args:
        data: law of the data; every component has a width where s = 0.
        chain: the noising chain.
        s: cleaner level, 0 <= s < t.
        t: noisier level, t <= T.

    Raises:
        ValueError: a level is out of range or s >= t.
    """
    keep, noise = float(np.sqrt(chain.alpha(s, t))), float(chain.beta(s, t))
    before, after = at_level(data, chain, s), at_level(data, chain, t)
    width = _expectation(after, lambda x: np.log(before.uncertainty(x, keep, noise)))
    gained = _negative_entropy(before) - _negative_entropy(after)
    return float((width - np.log(noise)) / 2 + gained)


def at_level(data: Mixture, chain: Chain, t: int) -> Mixture:
    """Law of x_t, a mixture again.  T-fn9, T-fn27.

    Args:
        data: law of the data.
        chain: the noising chain.
        t: level, 0 <= t <= T.

    Raises:
        ValueError: the level is out of range.
    """
    c, power, noise = chain.amplitude(t).high, chain.signal(t).high, chain.noise(t).high
    return Mixture(data.weights, c * data.means, power * data.variances + noise)


def _negative_entropy(law: Mixture) -> float:
    return _expectation(law, lambda x: law.log_density(x, 1.0, 0.0))


def _expectation(law: Mixture, function: Callable[[Array], Array]) -> float:
    """Expectation under a mixture, one grid for each component."""
    x = law.means[:, None] + np.sqrt(law.variances)[:, None] * _NODES
    return float(law.weights @ (function(x) @ _MASSES))
