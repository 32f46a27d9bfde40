"""Networks that return another number of channels than they see."""

import pytest
import torch

from ddpm.errors import InputError
from ddpm.models.initialise import build
from ddpm.models.network import build_network
from tests.ddpm.models.networks import CASES, Case, T, awake

ALL = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@ALL
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("outputs", [1, 2, 5])
def test_as_many_channels_as_asked_for(case: Case, outputs: int, learned: bool) -> None:
    config = case.config(learned_variance=learned)
    model = awake(lambda: build_network(config, case.shape, outputs))
    out = model(case.inputs(), T)
    assert out.shape == (2, outputs, *case.shape[1:])
    out.square().sum().backward()
    head = [p for n, p in model.named_parameters() if "head" in n]
    assert head
    assert all(p.grad is not None and p.grad.ne(0).any() for p in head)


@ALL
def test_weights_before_the_head_are_those_of_the_usual_network(case: Case) -> None:
    usual, other = (
        build(lambda o=o: build_network(case.config(), case.shape, o), 5, "cpu").state_dict()  # type: ignore[misc]
        for o in (None, 2 * case.shape[0])
    )
    for name, value in usual.items():
        if "head" not in name:
            assert torch.equal(value, other[name])
    twice = build(lambda: build_network(case.config(learned_variance=True), case.shape), 5, "cpu")
    shapes = {name: value.shape for name, value in twice.state_dict().items()}
    assert shapes == {name: value.shape for name, value in other.items()}


@ALL
def test_no_channels_are_refused(case: Case) -> None:
    with pytest.raises(InputError, match="outputs = 0: allowed is an integer of at least 1"):
        build_network(case.config(), case.shape, 0)
