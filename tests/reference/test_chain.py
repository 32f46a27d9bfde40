import numpy as np
import pytest

from ddpm.reference.chain import Chain, checked_levels, checked_pair, one_minus_exp
from ddpm.reference.double_double import DoubleDouble


def test_properties_of_the_chain() -> None:
    chain = Chain([0.1, 1.0])
    assert chain.steps == 2
    assert chain.zero_terminal_snr
    assert not Chain([0.1]).zero_terminal_snr
    assert chain.log_snr[-1] == -np.inf
    assert chain.alpha_bar[-1] == 0
    assert chain.lambdas.shape == (2,)
    assert not chain.betas.flags.writeable


def test_the_chain_keeps_its_own_betas() -> None:
    betas = np.array([0.1, 0.2])
    chain = Chain(betas)
    betas[0] = 0.5
    assert chain.betas.tolist() == [0.1, 0.2]


def test_small_table() -> None:
    chain = Chain([0.1, 0.2, 0.3])
    np.testing.assert_allclose(chain.alpha_bar, [1, 0.9, 0.72, 0.504], rtol=1e-15)
    np.testing.assert_allclose(chain.snr[1:], [9, 2.571428571, 1.016129032], rtol=1e-9)


def test_unrounded_values_hold_the_rounded_tables() -> None:
    chain = Chain([0.1, 0.2, 0.3])
    levels = np.arange(4)
    assert np.array_equal(chain.signal(levels).high, chain.alpha_bar)
    assert np.array_equal(chain.amplitude(levels).high, chain.c)
    assert np.array_equal(chain.noise(levels).high, chain.one_minus_alpha_bar)
    assert np.array_equal(chain.log_signal(levels).high, chain.log_alpha_bar)
    assert chain.step_noise(1, 3).high == chain.beta(1, 3)
    np.testing.assert_allclose(chain.log_signal_ratio(1, 3).high, np.log(0.8 * 0.7), rtol=1e-15)
    np.testing.assert_allclose(one_minus_exp(DoubleDouble.of(-1e-20)).high, 1e-20, rtol=1e-15)
    assert not np.signbit(one_minus_exp(DoubleDouble.of(0.0)).high)


def test_levels_of_an_array() -> None:
    chain = Chain([0.1, 0.2, 0.3])
    s, t = np.array([0, 1]), np.array([2, 3])
    np.testing.assert_allclose(chain.alpha(s, t), [0.72, 0.56], rtol=1e-15)
    np.testing.assert_allclose(chain.beta(s, t), [0.28, 0.44], rtol=1e-15)
    assert chain.snr_drop(s, t)[0] == np.inf


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "T >= 1"),
        ([[0.1]], "T >= 1"),
        (0.1, "T >= 1"),
        ([0.0], r"\(0, 1\]"),
        ([-0.1], r"\(0, 1\]"),
        ([1.1], r"\(0, 1\]"),
        ([np.nan], r"\(0, 1\]"),
        ([0.5, 2.0, 3.0], r"got \[2\.\]"),
        ([1.0, 0.5], "last level only"),
    ],
)
def test_refused_betas(bad: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chain(bad)


def test_refused_levels() -> None:
    chain = Chain([0.1, 0.2])
    for s, t in [(1, 1), (2, 1), (-1, 1), (0, 3)]:
        with pytest.raises(ValueError, match="must"):
            chain.beta(s, t)
        with pytest.raises(ValueError, match="must"):
            checked_pair(s, t, 2)
    for t in (-1, 3):
        for value in (chain.signal, chain.amplitude, chain.noise, chain.log_signal):
            with pytest.raises(ValueError, match=r"t must lie in 0\.\.2"):
                value(t)
    with pytest.raises(TypeError, match="t must be an integer or integers, got dtype float64"):
        checked_levels(np.array([0.5]), 2)
    with pytest.raises(TypeError, match="integer"):
        checked_levels(np.array([True]), 2)
    assert checked_levels(np.array([0, 2], dtype=np.uint8), 2).dtype == np.int64


@pytest.mark.parametrize("variance", [-1e-9, np.inf, np.nan])
def test_refused_data_variance(variance: float) -> None:
    with pytest.raises(ValueError, match="data_variance must be finite and at least 0, got"):
        Chain([0.1]).marginal_variance(variance)


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        ([0.5, 0.0], r"\(0, 1\], got \[0\.\]"),
        ([0.5, 1.0, 1.5], r"\(0, 1\], got \[1\.5\]"),
        ([0.5, 1.0, 0.5], "^betas may be 1 at the last level only$"),
    ],
)
def test_refused_betas_are_shown(betas: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chain(betas)


def test_data_without_variance() -> None:
    np.testing.assert_allclose(Chain([0.1]).marginal_variance(0.0), [0, 0.1], rtol=1e-15)
