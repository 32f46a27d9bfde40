import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.variances import (
    decoder_variance,
    gaussian_variance,
    log_interpolated_variance,
    mixed_variance,
    model_variance,
    optimal_share,
    optimal_variance,
    sigmoid_variance,
)

GOLDEN = Chain([0.1, 0.2, 0.3])


def test_shapes() -> None:
    levels = np.array([1, 2]), np.array([2, 3])
    for variance in ("beta", "posterior"):
        assert model_variance(GOLDEN, *levels, variance).shape == (2,)
    assert gaussian_variance(GOLDEN, *levels, 2.0).shape == (2,)
    assert gaussian_variance(GOLDEN, 1, 2, 2.0).shape == ()
    assert gaussian_variance(GOLDEN, 1, 2, np.ones(4)).shape == (4,)
    assert optimal_variance(GOLDEN, *levels, 0.5).shape == (2,)
    assert optimal_share(GOLDEN, levels[1], 0.5).shape == (2,)
    assert mixed_variance(GOLDEN, *levels, np.ones((2, 3))).shape == (2, 3)
    assert sigmoid_variance(GOLDEN, *levels, np.ones((2, 3))).shape == (2, 3)
    assert log_interpolated_variance(GOLDEN, *levels, np.ones((2, 3))).shape == (2, 3)


def test_ends_of_the_ranges() -> None:
    s2 = model_variance(GOLDEN, 1, 2, "posterior")
    assert np.isclose(gaussian_variance(GOLDEN, 1, 2, 0.0), s2, rtol=1e-14)
    assert optimal_variance(GOLDEN, 1, 2, 0.0) == s2
    assert optimal_share(GOLDEN, 1, 0.0) == 0
    mixed = mixed_variance(GOLDEN, 1, 2, np.array([0.0, 1.0]))
    assert np.array_equal(mixed, np.array([s2, GOLDEN.beta(1, 2)]))


def test_a_decoder_after_one_step() -> None:
    assert decoder_variance(Chain([0.25])) == 0.25
    message = r"^variance must be 'beta' for a chain of one step: there is no level 2$"
    with pytest.raises(ValueError, match=message):
        decoder_variance(Chain([0.25]), "posterior")


def test_refused_names() -> None:
    with pytest.raises(ValueError, match="variance must be 'posterior' or 'beta', got 'learned'"):
        model_variance(GOLDEN, 1, 2, "learned")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="variance must be 'posterior' or 'beta', got 'learned'"):
        decoder_variance(GOLDEN, "learned")  # type: ignore[arg-type]


@pytest.mark.parametrize(("s", "t"), [(2, 2), (3, 1)])
def test_refused_order_of_levels(s: int, t: int) -> None:
    message = f"s must be less than t, got s = {s}, t = {t}"
    for variance in ("beta", "posterior"):
        with pytest.raises(ValueError, match=message):
            model_variance(GOLDEN, s, t, variance)
    for function in (gaussian_variance, optimal_variance):
        with pytest.raises(ValueError, match=message):
            function(GOLDEN, s, t, 0.5)
    for learned in (mixed_variance, log_interpolated_variance, sigmoid_variance):
        with pytest.raises(ValueError, match=message):
            learned(GOLDEN, s, t, np.array([0.5]))


def test_refused_negative_moments() -> None:
    with pytest.raises(ValueError, match=r"data_variance must be at least 0, got -0\.5"):
        gaussian_variance(GOLDEN, 1, 2, -0.5)
    with pytest.raises(ValueError, match=r"error must be at least 0, got -0\.5"):
        optimal_variance(GOLDEN, 1, 2, np.array([0.5, -0.5]))
    with pytest.raises(ValueError, match=r"error must be at least 0, got -0\.5"):
        optimal_share(GOLDEN, 2, -0.5)
    with pytest.raises(ValueError, match="data_variance must be finite"):
        gaussian_variance(GOLDEN, 1, 2, np.nan)


def test_refused_share_at_level_zero() -> None:
    with pytest.raises(ValueError, match="t must be at least 1, got 0: level 0 has no noise"):
        optimal_share(GOLDEN, 0, 0.5)
    with pytest.raises(ValueError, match="t must be at least 1"):
        optimal_share(GOLDEN, np.array([1, 0]), 0.5)
    with pytest.raises(ValueError, match=r"t must lie in 0\.\.3"):
        optimal_share(GOLDEN, 4, 0.5)


@pytest.mark.parametrize("share", [-1e-9, 1.5])
def test_refused_shares(share: float) -> None:
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\], got"):
        mixed_variance(GOLDEN, 1, 2, np.array([0.5, share]))


def test_refused_outputs() -> None:
    with pytest.raises(ValueError, match="logits must be finite"):
        sigmoid_variance(GOLDEN, 1, 2, np.array([np.nan]))
    with pytest.raises(ValueError, match="fraction must be finite"):
        log_interpolated_variance(GOLDEN, 1, 2, np.array([np.nan]))
    with pytest.raises(ValueError, match="share must be finite"):
        mixed_variance(GOLDEN, 1, 2, np.array([np.nan]))


def test_refused_logarithm_at_the_last_step() -> None:
    with pytest.raises(ValueError, match="s must be at least 1, got 0: the posterior variance"):
        log_interpolated_variance(GOLDEN, 0, 2, np.zeros(2))
    with pytest.raises(ValueError, match="s must be at least 1"):
        log_interpolated_variance(GOLDEN, np.array([1, 0]), np.array([2, 2]), np.zeros(2))
