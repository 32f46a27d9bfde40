from collections.abc import Callable

import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.linear_reverse import LinearReverse
from ddpm.reference.path_bound import (
    bayes_ratio,
    joint_ratio,
    log_marginals,
    log_posteriors,
    path_terms,
    posterior_ratio,
)

CHAIN = Chain([0.1, 0.3])
MODEL = LinearReverse(np.array([1.0, 0.5]), np.array([0.0, 0.1]), np.array([0.2, 0.3]))
FORMS = [joint_ratio, bayes_ratio, posterior_ratio, path_terms]


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3)])
def test_shapes(shape: tuple[int, ...]) -> None:
    path = np.zeros((3, *shape))
    for form in (joint_ratio, bayes_ratio, posterior_ratio):
        assert form(CHAIN, MODEL, path).shape == (5,)
    terms = path_terms(CHAIN, MODEL, path)
    assert terms.prior.shape == terms.decoder.shape == terms.total.shape == (5,)
    assert terms.kls.shape == (1, 5)
    assert log_marginals(CHAIN, path).shape == (2, 5)
    assert log_posteriors(CHAIN, path).shape == (1, 5)


def test_one_step_has_no_posterior() -> None:
    chain = Chain([0.3])
    model = LinearReverse(np.ones(1), np.zeros(1), np.ones(1))
    path = np.zeros((2, 4, 1))
    assert log_posteriors(chain, path).shape == (0, 4)
    assert path_terms(chain, model, path).kls.shape == (0, 4)


@pytest.mark.parametrize("form", FORMS)
def test_refused_lengths(form: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="model must have 3 steps like the chain, got 2"):
        form(Chain([0.1, 0.2, 0.3]), MODEL, np.zeros((3, 1, 1)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(2, 1, 1), (4, 1, 1), (3,), ()])
def test_refused_paths(form: Callable[..., object], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="path must have"):
        form(CHAIN, MODEL, np.zeros(shape))


@pytest.mark.parametrize("law", [log_marginals, log_posteriors])
@pytest.mark.parametrize("shape", [(2, 1, 1), (4, 1, 1), (3,)])
def test_refused_paths_of_the_laws(law: Callable[..., object], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"path must have shape \(3, batch, \.\.\.\)"):
        law(CHAIN, np.zeros(shape))
