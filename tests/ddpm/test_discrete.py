"""Discrete diffusion against the reference's matrices, enumerated paths and exact models."""

from itertools import combinations, product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import rel_entr, softmax
from torch import Tensor

from ddpm.discrete import DiscreteDiffusion, Transition
from ddpm.discrete.chain import Terms, draw
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.reference.discrete import (
    CategoricalChain,
    categorical_bound,
    q_marginal,
    q_posterior,
    reverse_step,
)
from ddpm.reference.transition_matrices import absorbing_matrix, uniform_matrix

Array = NDArray[np.float64]
K = 4
GRID = 20_000
KINDS: tuple[Transition, ...] = ("uniform", "absorbing")
BOTH = pytest.mark.parametrize("kind", KINDS)


def matrices(kind: Transition, steps: int, grey_levels: int = K) -> CategoricalChain:
    """The documented schedules, one matrix a step."""
    if kind == "absorbing":
        betas = [1 / (steps - t + 1) for t in range(1, steps + 1)]
        states = grey_levels + 1
        return CategoricalChain([absorbing_matrix(b, states, grey_levels) for b in betas])
    kept = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2)
    betas = list(1 - kept[1:] / kept[:-1])
    betas[-1] = 1.0
    return CategoricalChain([uniform_matrix(b, grey_levels) for b in betas])


def numbers(*shape: int, seed: int = 0, scale: float = 2.0) -> Array:
    return np.random.default_rng(seed).normal(0, scale, shape)


def predicted(chain: CategoricalChain, logits: Array, x: int, t: int) -> Array:
    """p(x_0 | x_t) by Bayes' rule: the network's logits are a prior; no clean pixel is a mask."""
    law = np.zeros(chain.states)
    law[: len(logits)] = softmax(logits)
    law *= chain.transition(0, t)[:, x]
    return np.asarray(law / law.sum())


def one_pixel(
    process: DiscreteDiffusion,
    logits: Array,
    x: int,
    clean: int,
    t: int,
    dtype: torch.dtype = torch.float32,
) -> Terms:
    """Terms of a single pixel."""
    pixel = torch.tensor(logits, dtype=dtype).view(1, 1, -1, 1, 1)
    state, target = (torch.full((1, 1, 1, 1), value) for value in (x, clean))
    return process.chain.terms(pixel, state, target, torch.tensor([t]))


def reachable(chain: CategoricalChain, clean: int, t: int) -> list[int]:
    return [int(x) for x in np.flatnonzero(q_marginal(chain, t, clean) > 0)]


@BOTH
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_noise_has_the_law_of_the_product_of_matrices(kind: Transition, steps: int) -> None:
    process, chain = DiscreteDiffusion(steps, K, kind), matrices(kind, steps)
    places = ((torch.arange(GRID).double() + 0.5) / GRID).view(1, 1, 1, GRID)
    for t, clean in product(range(steps + 1), range(K)):
        x = process.chain.noised(torch.full_like(places, clean).long(), torch.tensor([t]), places)
        share = np.bincount(x.flatten().numpy(), minlength=chain.states) / GRID
        np.testing.assert_allclose(share, q_marginal(chain, t, clean), atol=2 / GRID)


@BOTH
def test_a_step_has_the_law_of_the_averaged_posterior(kind: Transition) -> None:
    """Between any two levels, and for any output of the network."""
    steps = 5
    process, chain = DiscreteDiffusion(steps, K, kind), matrices(kind, steps)
    places = ((torch.arange(GRID).double() + 0.5) / GRID).view(1, 1, 1, GRID)
    for number, (s, t) in enumerate(combinations(range(steps + 1), 2)):
        logits = numbers(K, seed=number)
        spread = torch.tensor(logits, dtype=torch.float32).view(1, 1, K, 1, 1)
        for x in {x for k in range(K) for x in reachable(chain, k, t)}:
            state = torch.full(places.shape, x)
            got = process.chain.step(spread.expand(1, 1, K, 1, GRID), state, s, t, places)
            share = np.bincount(got.flatten().numpy(), minlength=chain.states) / GRID
            want = reverse_step(chain, s, t, x, predicted(chain, logits, x, t))
            np.testing.assert_allclose(share, want, atol=3 / GRID)


@BOTH
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_terms_are_divergences_of_the_reference(kind: Transition, steps: int) -> None:
    process, chain = DiscreteDiffusion(steps, K, kind), matrices(kind, steps)
    for t, clean in product(range(1, steps + 1), range(K)):
        for x in reachable(chain, clean, t):
            logits = numbers(K, seed=t)
            law = predicted(chain, logits, x, t)
            got = one_pixel(process, logits, x, clean, t)
            posterior = q_posterior(chain, t - 1, t, x, clean)
            want = rel_entr(posterior, reverse_step(chain, t - 1, t, x, law)).sum()
            np.testing.assert_allclose(got.bound.item(), want, rtol=2e-5, atol=1e-6)
            entropy = -np.log(law[clean])
            np.testing.assert_allclose(got.cross_entropy.item(), entropy, rtol=2e-5, atol=1e-6)


@BOTH
def test_the_bound_is_the_log_ratio_of_all_paths(kind: Transition) -> None:
    """Weighted by the law of x_t the terms add up to what enumeration of every path gives."""
    steps, grey = 3, 3
    process, chain = DiscreteDiffusion(steps, grey, kind), matrices(kind, steps, grey)
    logits = numbers(steps + 1, chain.states, grey, seed=3)
    prior = np.eye(chain.states)[grey] if kind == "absorbing" else np.full(grey, 1 / grey)

    def predict(x: NDArray[np.int64], t: int) -> Array:
        return np.array([predicted(chain, logits[t, i], int(i), t) for i in x])

    terms = categorical_bound(chain, np.arange(grey), predict, prior)
    for clean in range(grey):
        total = 0.0
        for t in range(1, steps + 1):
            law = q_marginal(chain, t, clean)
            total += sum(
                law[x] * one_pixel(process, logits[t, x], x, clean, t).bound.item()
                for x in reachable(chain, clean, t)
            )
        want = path_ratio(chain, logits, clean, prior)
        np.testing.assert_allclose(total, want, rtol=1e-5)
        np.testing.assert_allclose(terms.total[clean], want, rtol=1e-10)


def path_ratio(chain: CategoricalChain, logits: Array, clean: int, prior: Array) -> float:
    """Average of log q(x_1..x_T | x_0) / p(x_0..x_T) over every path from a clean category."""
    total, steps = 0.0, chain.steps
    for tail in product(range(chain.states), repeat=steps):
        path = (clean, *tail)
        ahead = np.prod([chain.matrices[t - 1][path[t - 1], path[t]] for t in range(1, steps + 1)])
        if ahead == 0:
            continue
        back = prior[path[-1]]
        for t in range(1, steps + 1):
            law = predicted(chain, logits[t, path[t]], path[t], t)
            back *= reverse_step(chain, t - 1, t, path[t], law)[path[t - 1]]
        total += ahead * np.log(ahead / back)
    return float(total)


@BOTH
@pytest.mark.parametrize(("steps", "grey"), [(1, 2), (40, 17), (3, 256)])
def test_the_bound_of_the_exact_network_is_the_log_likelihood(
    kind: Transition, steps: int, grey: int
) -> None:
    """Without other pixels the exact logits are those of the data's law, at every level."""
    process = DiscreteDiffusion(steps, grey, kind)
    logits = numbers(grey, scale=1.0)
    kept = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2)
    kept = kept / kept[0]
    kept[-1] = 0
    if kind == "absorbing":
        kept = 1 - np.arange(steps + 1) / steps
    total = np.zeros(grey)
    clean = torch.arange(grey).repeat_interleave(process.states).view(-1, 1, 1, 1)
    x = torch.arange(process.states).repeat(grey).view(-1, 1, 1, 1)
    spread = torch.tensor(logits, dtype=torch.float32).view(1, 1, grey, 1, 1)
    for t in range(1, steps + 1):
        level = torch.full((len(x),), t)
        terms = process.chain.terms(spread.expand(len(x), 1, grey, 1, 1), x, clean, level)
        bound = terms.bound.view(grey, process.states).double().numpy()
        law = kept[t] * np.eye(grey, process.states)
        law[:, -1 if kind == "absorbing" else slice(None)] += (1 - kept[t]) * (
            1 if kind == "absorbing" else 1 / grey
        )
        total += (law * bound).sum(axis=1)
    np.testing.assert_allclose(total, -np.log(softmax(logits)), rtol=2e-5)


@pytest.mark.parametrize("t", [1, 2, 3, 40, 500, 999, 1000])
def test_small_steps_keep_their_digits(t: int) -> None:
    """With a thousand levels laws differ by 1e-5; float64 logits keep all digits of that."""
    steps, grey, x = 1000, 17, 5
    process = DiscreteDiffusion(steps, grey, "uniform")
    angle = (np.array([t - 1, t]) / steps + 0.008) / 1.008 * np.pi / 2
    kept = np.cos(angle) / np.cos(0.008 / 1.008 * np.pi / 2)
    kept[1] = 0.0 if t == steps else kept[1]
    step = np.full((grey, grey), (1 - kept[1] / kept[0]) / grey) + np.eye(grey) * kept[1] / kept[0]
    first, whole = (np.full((grey, grey), (1 - k) / grey) + np.eye(grey) * k for k in kept)
    if t == 1:
        first = np.eye(grey)
    for clean, shift in product((x, 2), (-4.0, 0.0, 6.0)):
        logits = numbers(grey).astype(np.float32).astype(np.float64)
        logits[x] += shift
        law = softmax(logits) * whole[:, x]
        law /= law.sum()
        laws = first * step[:, x] / whole[:, [x]]
        want = rel_entr(laws[clean], law @ laws).sum()
        got = one_pixel(process, logits, x, clean, t).bound.item()
        # A thousand times this is 2e-4 nats in the loss.
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-7)
        got = one_pixel(process, logits, x, clean, t, torch.float64).bound.item()
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-13)


@BOTH
@pytest.mark.parametrize("t", [1, 2, 3])
def test_gradients_of_the_terms(kind: Transition, t: int) -> None:
    """Against finite differences in float64, for logits that are sure and wrong too."""
    process = DiscreteDiffusion(3, K, kind)
    logits = torch.tensor(numbers(2, 1, K, 3, 2, scale=3.0), requires_grad=True)
    clean = torch.arange(12).view(2, 1, 3, 2) % K
    key = Key.of(1, range(2))
    x = process.q_sample(clean.to(torch.uint8), torch.tensor([t, t]), key)

    def terms(values: Tensor) -> Terms:
        return process.chain.terms(values, x, clean, torch.tensor([t, t]))

    assert torch.autograd.gradcheck(terms, (logits,), atol=1e-6, rtol=1e-4)


@BOTH
def test_terms_stay_finite_where_the_network_is_sure(kind: Transition) -> None:
    process = DiscreteDiffusion(1000, K, kind)
    for own, t in product((-300.0, 300.0), (1, 2, 500, 1000)):
        logits = torch.zeros(1, 1, K, 1, K)
        logits[:, :, 1] = own
        logits.requires_grad_()
        clean = torch.arange(K).view(1, 1, 1, K)
        states = (clean, torch.ones_like(clean), torch.full_like(clean, process.states - 1))
        for x in states:
            terms = process.chain.terms(logits, x, clean, torch.tensor([t]))
            (gradient,) = torch.autograd.grad(terms.bound.sum(), logits)
            assert terms.bound.isfinite().all()
            assert terms.bound.min() >= -1e-6
            assert gradient.isfinite().all()


def test_draws_never_give_what_has_no_weight() -> None:
    """Of weights that do not add up to one, for the largest and the smallest numbers too."""
    weights = torch.tensor([0.0, 0.3, 0.0, 0.4, 0.0]).view(1, 1, -1, 1, 1)
    places = torch.tensor([2.0**-33, 0.42, 0.44, 1 - 2.0**-33], dtype=torch.float64)
    got = draw(weights.expand(1, 1, 5, 1, 4), places.view(1, 1, 1, 4))
    assert got.flatten().tolist() == [1, 1, 3, 3]


@BOTH
def test_noise_is_a_function_of_the_sample(kind: Transition) -> None:
    process = DiscreteDiffusion(9, K, kind)
    images = torch.full((6, 2, 3, 3), 2, dtype=torch.uint8)
    t = torch.tensor([1, 3, 5, 7, 8, 9])
    whole = process.q_sample(images, t, Key.of(5, range(6), step=4))
    part = process.q_sample(images[2:4], t[2:4], Key.of(5, (2, 3), step=4))
    assert torch.equal(whole[2:4], part)
    for other in (Key.of(6, range(6), step=4), Key.of(5, range(6), step=3)):
        assert not torch.equal(whole, process.q_sample(images, t, other))
    stream = Stream.EVALUATION_NOISE
    assert not torch.equal(whole, process.q_sample(images, t, Key.of(5, range(6), 4), stream))
    assert torch.equal(process.q_sample(images, 0 * t, Key.of(5, range(6))), images.long())
