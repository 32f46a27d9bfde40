import numpy as np
import pytest

from ddpm.reference.autoregression import (
    ar1_law,
    ar1_sample,
    ar1_variance,
    mean_square_step,
    telescope,
    unroll,
    with_noise,
)


def test_one_gain_and_variance_for_each_sample() -> None:
    x = np.ones((2, 3))
    mean, variance = ar1_law(x, [0.5, -2.0], [0.25, 0.0])
    assert mean.tolist() == [[0.5] * 3, [-2.0] * 3]
    assert variance.tolist() == [0.25, 0.0]
    assert ar1_sample(x, [0.5, -2.0], [0.25, 0.0], x).tolist() == [[1.0] * 3, [-2.0] * 3]
    assert with_noise(x, 4.0, -x).tolist() == [[-1.0] * 3] * 2


def test_shapes_of_variances() -> None:
    assert ar1_variance(np.ones((2, 3)), 0.5, 0.1).shape == (2, 3)
    assert mean_square_step([0.5, 1.0], 0.5, 0.1).shape == (2,)


def test_random_walk() -> None:
    gain, variance = telescope(np.ones(3), [0.1, 0.2, 0.3])
    assert gain.tolist() == [1, 1, 1, 1]
    np.testing.assert_allclose(variance, [0, 0.1, 0.3, 0.6], rtol=1e-15)
    np.testing.assert_allclose(unroll(np.ones(2), [0.25, 4.0]), [1, 0.5, 2], rtol=1e-15)


def test_no_steps() -> None:
    gain, variance = telescope([], [])
    assert gain.tolist() == [1]
    assert variance.tolist() == [0]
    assert unroll([], []).tolist() == [1]


def test_refused_arguments() -> None:
    with pytest.raises(ValueError, match=r"variance must be at least 0, got -0\.1"):
        ar1_law([0.0], 0.5, -0.1)
    with pytest.raises(ValueError, match="gain must be finite"):
        ar1_law([0.0], np.nan, 0.1)
    with pytest.raises(ValueError, match="x must be finite"):
        ar1_law([np.nan], 0.5, 0.1)
    with pytest.raises(ValueError, match="noise must have shape"):
        ar1_sample([0.0], 0.5, 0.1, [0.0, 0.0])
    with pytest.raises(ValueError, match=r"variance must be at least 0, got -1\.0"):
        ar1_variance(-1.0, 0.5, 0.1)
    with pytest.raises(ValueError, match=r"noise must be at least 0, got -1\.0"):
        ar1_variance(1.0, 0.5, -1.0)
    with pytest.raises(ValueError, match="gain must be finite"):
        ar1_variance(1.0, np.inf, 0.1)
    with pytest.raises(ValueError, match="gain must be finite"):
        mean_square_step(1.0, np.inf, 0.1)


@pytest.mark.parametrize("function", [telescope, unroll])
def test_refused_steps(function: type) -> None:
    with pytest.raises(ValueError, match=r"variances must have the shape of lambdas, \(2,\)"):
        function([0.5, 0.5], [0.1])
    with pytest.raises(ValueError, match="variances must have the shape of lambdas"):
        function(0.5, 0.1)
    with pytest.raises(ValueError, match=r"variances must be at least 0, got -0\.1"):
        function([0.5], [-0.1])
    with pytest.raises(ValueError, match="lambdas must be finite"):
        function([np.nan], [0.1])
