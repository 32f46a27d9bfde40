import pytest
import torch
from torch import Tensor

from ddpm.models.conditions import Labels, conditional_labels, embed, level_layers
from tests.ddpm.models.networks import awake, images

LAYERS = awake(lambda: level_layers(6, 4)).double()
TABLE = awake(lambda: Labels(3, 4), 2).double()
CODE = images(5, 6).double()


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def by_hand(labels: list[int] | None) -> Tensor:
    w1, b1, w2, b2 = LAYERS.parameters()
    rows = [] if labels is None else [TABLE.table.weight[label] for label in labels]
    return silu(silu(CODE @ w1.T + b1) @ w2.T + b2 + (torch.stack(rows) if rows else 0))


def test_level_and_label_by_hand() -> None:
    """A label is added before the last activation, so that what it does depends on the level."""
    labels = [0, 1, 2, 3, 1]
    got = embed(LAYERS, TABLE, CODE, torch.tensor(labels))
    torch.testing.assert_close(got, by_hand(labels), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(embed(LAYERS, TABLE, CODE, None), by_hand([3] * 5))


def test_a_level_alone_is_what_the_layers_make_of_it() -> None:
    assert torch.equal(embed(LAYERS, None, CODE, None), LAYERS(CODE))
    torch.testing.assert_close(embed(LAYERS, None, CODE, None), by_hand(None))


def test_a_table_has_one_more_row_than_there_are_classes() -> None:
    assert conditional_labels(0, 4) is None
    table = conditional_labels(7, 4)
    assert table is not None
    assert [tuple(p.shape) for p in table.parameters()] == [(8, 4)]


def test_labels_under_vmap() -> None:
    """Gradients of single samples map over a batch of one each."""
    one = torch.func.vmap(lambda code, label: embed(LAYERS, TABLE, code[None], label[None])[0])
    labels = torch.tensor([0, 1, 2, 3, 1])
    torch.testing.assert_close(one(CODE, labels), embed(LAYERS, TABLE, CODE, labels))


def test_labels_without_classes() -> None:
    with pytest.raises(ValueError, match="labels are given: allowed for a network with classes"):
        embed(LAYERS, None, CODE, torch.zeros(5, dtype=torch.int64))
