"""Every array argument of the reference refuses what is not a number, and says which it was."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from ddpm.reference.arrays import Array
from ddpm.reference.discrete import CategoricalChain
from ddpm.reference.langevin import annealed_langevin
from ddpm.reference.linear_reverse import LinearReverse
from ddpm.reference.mlp import initial, shaped
from ddpm.reference.sde_solvers import solve
from ddpm.verify.injection import injected
from ddpm.verify.registry import PROOFS, Proof, Target, load, plain, target_name
from ddpm.verify.runner import run

load()

ARRAYS = {str(kind) for kind in (ArrayLike, Array)} | {"ArrayLike", "Array"}

# A function that only hands an argument on lets the one that uses it speak, under its own name.
HANDED_ON = {
    "elbo.expected_divergence": {"x0": "samples"},
    "elbo.expected_terms": {"x0": "samples"},
    "elbo.step_divergence": {"x0": "samples"},
    "evidence.LinearGaussian.elbo": {"x": "model_mean", "variance": "variance_q"},
    "evidence.LinearGaussian.gap": {"variance": "variance_q"},
    "gaussian.kl_full": {"mean_q": "mean_x", "mean_p": "centre"},
    "gaussian_algebra.affine_joint": {
        "mean": "mean_x", "covariance": "covariance_x", "shift": "mean_y", "noise": "covariance_y",
    },
    "gaussian_algebra.affine_marginal": {
        "mean": "mean_x", "covariance": "covariance_x", "shift": "mean_y", "noise": "covariance_y",
    },
    "gaussian_algebra.conditional": {"mean": "mean_x", "covariance": "covariance_x"},
    "gaussian_algebra.decorrelate": {"mean": "mean_x", "covariance": "covariance_x"},
    "gaussian_algebra.expected_quadratic_form": {"mean": "mean_x", "covariance": "covariance_x"},
    "ilvr.ilvr_step": {"eps": "output", "reference_noise": "noise"},
    "ilvr.noisy_reference": {"reference": "x0"},
    "langevin.annealed_langevin": {"noises": "noise"},
    "langevin.langevin": {"noises": "noise"},
    "likelihood_objective.inner_average": {
        "mean_q": "x", "mean_p": "mean", "variance_p": "variance",
    },
    "linear_reverse.LinearReverse.log_evidence": {"x0": "samples"},
    "priorgrad.prior_posterior": {"z0": "x0", "z_t": "x_t"},
    "priorgrad.prior_step": {"z0_hat": "x0", "z_t": "x_t"},
    "reverse.exact_reverse_moments": {"x_t": "x"},
    "sampling.ancestral_step": {"x0_hat": "x0"},
    "sampling.model_mean_variance": {"x0_hat": "x0"},
    "score_matching.continuous_score_loss": {"x_t": "x"},
    "score_matching.score_loss": {"x_t": "x"},
    "sde_solvers.solve": {"noises": "noise"},
    "vae.decode": {"z": "x"},
}  # fmt: skip


def targets() -> dict[str, tuple[Target, list[Proof]]]:
    """Each function that has a proof, with its proofs."""
    found: dict[str, tuple[Target, list[Proof]]] = {}
    for proof in PROOFS.values():
        for target in proof.of:
            if inspect.isfunction(plain(target)) and not proof.misprint:
                found.setdefault(target_name(target), (target, []))[1].append(proof)
    return found


def array_names(function: Callable[..., Any]) -> Iterator[str]:
    for name, parameter in inspect.signature(function).parameters.items():
        if str(parameter.annotation) in ARRAYS:
            yield name


CASES = [
    pytest.param(target, proofs, name, id=f"{label}-{name}")
    for label, (target, proofs) in targets().items()
    for name in array_names(plain(target))
]


def one_call(target: Target, proofs: list[Proof]) -> dict[str, Any]:
    """Arguments, none of them empty, with which a proof calls a function."""
    seen: list[inspect.BoundArguments] = []
    function, signature = plain(target), inspect.signature(plain(target))

    def record(*arguments: Any, **named: Any) -> Any:
        call = signature.bind(*arguments, **named)
        call.apply_defaults()
        if all(v.size for v in call.arguments.values() if isinstance(v, np.ndarray)):
            seen.append(call)
        return function(*arguments, **named)

    for proof in proofs:
        with injected(target, record):
            run(proof, examples=5, shrink=False)
        if seen:
            return dict(seen[-1].arguments)
    raise AssertionError(f"no proof calls {target_name(target)}")


@pytest.mark.parametrize(("target", "proofs", "name"), CASES)
def test_what_is_not_a_number_is_refused_by_name(
    target: Target, proofs: list[Proof], name: str
) -> None:
    arguments = one_call(target, proofs)
    arguments[name] = np.full(np.shape(arguments[name]), np.nan)
    said = HANDED_ON.get(target_name(target), {}).get(name, name)
    # Where integers are asked for, their absence is an error of type.
    with pytest.raises((ValueError, TypeError), match=rf"^{said} must "):
        plain(target)(**arguments)


def test_arguments_of_constructors_and_of_other_kinds() -> None:
    with pytest.raises(ValueError, match=r"^matrices must be finite"):
        CategoricalChain(np.full((1, 2, 2), np.nan))
    with pytest.raises(ValueError, match=r"^x_t must be finite"):
        LinearReverse(np.ones(1), np.zeros(1), np.ones(1)).mean(1, np.nan)
    with pytest.raises(ValueError, match=r"^times must be finite"):
        solve(lambda x, *_: x, np.zeros(1), [0.0, np.nan], np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"^deviations must be finite"):
        annealed_langevin(lambda x, _: -x, np.zeros(1), [np.nan], 0.1, np.zeros((1, 1, 1)))
    with pytest.raises(ValueError, match=r"^vector must be finite"):
        shaped(np.full(4, np.nan), initial((3, 1), np.random.default_rng(0)))
