import numpy as np
import pytest

from ddpm.reference.decoder import (
    decoder_log_likelihood,
    decoder_log_pmf,
    decoder_lower_bound,
    decoder_quadratic,
    grey_levels,
)

INNER = (decoder_quadratic, decoder_lower_bound)


def test_stored_values_are_snapped_to_the_grid() -> None:
    stored = np.float32(grey_levels(256)).astype(np.float64)
    np.testing.assert_array_equal(
        decoder_log_likelihood(stored, 0.1, 0.2), decoder_log_pmf(0.1, 0.2)
    )
    assert decoder_log_likelihood(np.nextafter(1.0, 0), 3.0, 0.01) == pytest.approx(0, abs=1e-12)


def test_a_value_may_be_off_by_half_a_percent_of_a_bin() -> None:
    on_grid = decoder_log_likelihood(0.5, 0.1, 0.2, 5)
    assert decoder_log_likelihood(0.5 + 0.0049 / 2, 0.1, 0.2, 5) == on_grid
    with pytest.raises(ValueError, match="5 grey levels"):
        decoder_log_likelihood(0.5 + 0.0051 / 2, 0.1, 0.2, 5)


def test_there_are_256_levels_by_default() -> None:
    x0 = grey_levels(256)[100]
    assert decoder_log_pmf(0.1, 0.2).shape == (256,)
    for function in (decoder_log_likelihood, *INNER):
        assert function(x0, 0.1, 0.2) == function(x0, 0.1, 0.2, 256)


def test_shapes() -> None:
    x0 = grey_levels(5)[[1, 2, 3]]
    for function in (decoder_log_likelihood, *INNER):
        assert function(x0, np.zeros((4, 1)), 0.1, 5).shape == (4, 3)
    assert decoder_log_pmf(np.zeros((4, 3)), 0.1, 5).shape == (4, 3, 5)


def test_values_off_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="256 grey levels"):
        decoder_log_likelihood([1.0, 0.0], 0.0, 1.0)
    for beyond in (1.125, -1.125):
        with pytest.raises(ValueError, match="17 grey levels"):
            decoder_log_likelihood(beyond, 0.0, 1.0, 17)


def test_too_few_levels_are_refused() -> None:
    for levels in (1, 0):
        with pytest.raises(ValueError, match="levels must be at least 2"):
            decoder_log_likelihood(1.0, 0.0, 1.0, levels)
        with pytest.raises(ValueError, match="levels must be at least 2"):
            grey_levels(levels)
    assert decoder_log_pmf(0.0, 1.0, 2).shape == (2,)


def test_deviations_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"deviation must be positive, got 0\.0"):
        decoder_log_likelihood(1.0, 0.0, [1.0, 0.0])
    for function in INNER:
        with pytest.raises(ValueError, match="deviation must be positive"):
            function(0.0, 0.0, -1.0, 3)


def test_outer_bins_are_refused() -> None:
    for outer in (-1.0, 1.0):
        for function in INNER:
            with pytest.raises(ValueError, match="inner bin"):
                function([0.0, outer], 0.0, 1.0, 3)
