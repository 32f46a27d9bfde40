import numpy as np
import pytest

from ddpm.reference.mlp import (
    HIDDEN,
    Layer,
    activations,
    backward,
    flat,
    forward,
    initial,
    shaped,
)


def test_weights_have_variance_two_over_inputs_and_no_bias() -> None:
    first, second = initial((3, 4, 2), np.random.default_rng(5))
    same = np.random.default_rng(5)
    np.testing.assert_allclose(first.weight, same.standard_normal((3, 4)) * (2 / 3) ** 0.5)
    np.testing.assert_allclose(second.weight, same.standard_normal((4, 2)) * 0.5**0.5)
    np.testing.assert_array_equal(np.concatenate([first.bias, second.bias]), np.zeros(6))


def test_width_of_the_hidden_layer() -> None:
    assert HIDDEN == 500


def test_trace_holds_the_input_and_every_activation() -> None:
    network = initial((3, 4, 2), np.random.default_rng(0))
    trace = activations(network, np.ones((5, 3)))
    assert [part.shape for part in trace] == [(5, 3), (5, 4), (5, 2)]
    np.testing.assert_array_equal(forward(network, np.ones((5, 3))), trace[-1])


def test_a_unit_at_its_kink_passes_nothing_on() -> None:
    network = (Layer(np.zeros((1, 1)), np.zeros(1)), Layer(np.ones((1, 1)), np.zeros(1)))
    by_network, by_x = backward(network, activations(network, [[1.0]]), np.ones((1, 1)))
    np.testing.assert_array_equal(flat(by_network), [0, 0, 0, 1])
    np.testing.assert_array_equal(by_x, [[0.0]])


def test_parameters_as_one_vector_and_back() -> None:
    network = (Layer(np.array([[1.0, 2.0]]), np.array([3.0, 4.0])),)
    np.testing.assert_array_equal(flat(network), [1, 2, 3, 4])
    (again,) = shaped(2 * flat(network), network)
    np.testing.assert_array_equal(again.weight, [[2, 4]])
    np.testing.assert_array_equal(again.bias, [6, 8])


@pytest.mark.parametrize("sizes", [(3,), (3, 0), (0, 3)])
def test_bad_widths_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="sizes must hold at least two widths"):
        initial(sizes, np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(3,), (2, 4), (1, 2, 3)])
def test_bad_inputs_are_refused(shape: tuple[int, ...]) -> None:
    network = initial((3, 1), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"x must have shape \(batch, 3\)"):
        activations(network, np.zeros(shape))


@pytest.mark.parametrize("shape", [(3,), (5,), (4, 1)])
def test_a_vector_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    network = initial((3, 1), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"^vector must have shape \(4,\), got "):
        shaped(np.zeros(shape), network)
