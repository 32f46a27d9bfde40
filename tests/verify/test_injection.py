"""A printed form takes the place of its correction everywhere, and only while it should."""

import numpy as np
import pytest

from ddpm.reference import posterior, variances
from ddpm.reference.chain import Chain
from ddpm.reference.posterior import Coefficients, posterior_coefficients
from ddpm.verify.injection import injected
from ddpm.verify.registry import plain, target_name

CHAIN = Chain([0.1, 0.2, 0.3])
PRINTED = Coefficients(np.array(7.0), np.array(8.0), np.array(9.0))


def nothing(*_: object) -> Coefficients:
    return PRINTED


def test_every_importer_sees_the_printed_form() -> None:
    right = posterior.posterior_coefficients(CHAIN, 1, 2).s2
    with injected(posterior_coefficients, nothing):
        assert posterior.posterior_coefficients(CHAIN, 1, 2) == PRINTED
        assert variances.model_variance(CHAIN, 1, 2, "posterior") == 9.0
    assert posterior.posterior_coefficients is posterior_coefficients
    assert variances.model_variance(CHAIN, 1, 2, "posterior") == right


def test_a_property_of_a_class() -> None:
    before = CHAIN.alpha_bar
    with injected(Chain.alpha_bar, lambda _: np.zeros(4)):
        assert np.all(CHAIN.alpha_bar == 0)
    assert CHAIN.alpha_bar is before


def test_a_method_of_a_class() -> None:
    right = CHAIN.snr_drop(1, 2)
    with injected(Chain.snr_drop, lambda *_: -right):
        assert CHAIN.snr_drop(1, 2) == -right
    assert CHAIN.snr_drop(1, 2) == right


def test_the_original_stands_inside_the_printed_form() -> None:
    def negated(chain: Chain, s: int, t: int) -> object:
        return -chain.snr_drop(s, t)

    right = CHAIN.snr_drop(1, 2)
    with injected(Chain.snr_drop, negated):
        assert CHAIN.snr_drop(1, 2) == -right
        assert CHAIN.snr_drop(1, 2) == -right


def test_an_error_restores_the_original() -> None:
    def broken(*_: object) -> object:
        raise ZeroDivisionError

    with injected(Chain.snr_drop, broken):
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                CHAIN.snr_drop(1, 2)
    assert CHAIN.snr_drop(1, 2) > 0


def test_names_of_targets() -> None:
    assert target_name(Chain.alpha_bar) == "chain.Chain.alpha_bar"
    assert target_name(Chain.snr_drop) == "chain.Chain.snr_drop"
    assert target_name(posterior_coefficients) == "posterior.posterior_coefficients"
    assert plain(Chain.steps)(CHAIN) == 3
