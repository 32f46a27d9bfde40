import hashlib
import json
from dataclasses import asdict

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ddpm.models import untied
from ddpm.models.initialise import build
from ddpm.models.mlp import MLPConfig
from ddpm.models.network import NetworkConfig, build_network
from ddpm.models.transformer import TransformerConfig
from ddpm.models.unet import UNetConfig
from ddpm.models.untied import Untied, UntiedConfig
from tests.ddpm.models.networks import awake, images

SHAPE = (2, 3, 2)
LEVELS = 6
MIXED = torch.tensor([4, 1, 6, 4, 4])
ABSENT = [1, 2, 4]
READER: TypeAdapter[object] = TypeAdapter(NetworkConfig)


def network(outputs: int | None = None, **fields: object) -> Untied:
    config = UntiedConfig(levels=LEVELS, hidden=(7, 5), **fields)  # type: ignore[arg-type]
    return awake(lambda: Untied(config, SHAPE, outputs))


def plain(model: Untied, level: int, x: Tensor, label: int | None = None) -> Tensor:
    """What the network of one level makes of one image, by layers that know no levels."""
    h = x.flatten()
    for i, layer in enumerate([*model.layers, model.head]):
        h = F.linear(F.silu(h) if i else h, layer.weight[level - 1], layer.bias[level - 1])
        if i == 0 and label is not None:
            assert model.labels is not None
            h = h + model.labels.table.weight[label].reshape(LEVELS, -1)[level - 1]
    return h.reshape(-1, *SHAPE[1:])


@pytest.mark.parametrize("learned", [False, True])
def test_a_mixed_batch_is_one_network_a_level(learned: bool) -> None:
    model, x = network(learned_variance=learned), images(5, *SHAPE)
    want = [plain(model, int(t), row) for t, row in zip(MIXED, x, strict=True)]
    got = model(x, MIXED)
    assert got.shape == (5, 4 if learned else 2, 3, 2)
    torch.testing.assert_close(got, torch.stack(want), rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_one_network_a_level() -> None:
    model, x = network(classes=3).double(), images(5, *SHAPE).double()
    labels = torch.tensor([0, 2, 3, 1, 0])
    parameters = list(model.parameters())
    got = torch.autograd.grad(model(x, MIXED, labels).square().sum(), parameters)
    rows = zip(MIXED, x, labels, strict=True)
    total = sum(plain(model, int(t), row, int(k)).square().sum() for t, row, k in rows)
    want = torch.autograd.grad(total, parameters)  # type: ignore[arg-type]
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_levels_outside_the_batch_learn_nothing() -> None:
    model = network()
    model(images(5, *SHAPE), MIXED).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        by_level = parameter.grad.flatten(1).ne(0).any(dim=1)
        assert by_level.tolist() == [level not in ABSENT for level in range(LEVELS)], name


def test_gradients_against_finite_differences() -> None:
    config = UntiedConfig(levels=2, hidden=(2,), classes=1)
    model = awake(lambda: Untied(config, (1, 2, 1))).double()
    names = [name for name, _ in model.named_parameters()]
    x, t, labels = images(3, 1, 2, 1).double(), torch.tensor([2, 1, 2]), torch.tensor([0, 1, 1])

    def call(x: Tensor, *values: Tensor) -> Tensor:
        out: Tensor = functional_call(
            model, dict(zip(names, values, strict=True)), (x, t), {"labels": labels}
        )
        return out

    values = [p.detach().clone().requires_grad_() for p in model.parameters()]
    assert torch.autograd.gradcheck(call, (x.requires_grad_(), *values))


def test_labels_shift_their_own_level() -> None:
    model, x = network(classes=3), images(5, *SHAPE)
    labels = torch.tensor([0, 2, 3, 1, 0])
    rows = zip(MIXED, x, labels, strict=True)
    want = torch.stack([plain(model, int(t), row, int(k)) for t, row, k in rows])
    torch.testing.assert_close(model(x, MIXED, labels), want, rtol=1e-5, atol=1e-6)
    assert torch.equal(model(x, MIXED), model(x, MIXED, torch.full((5,), 3)))
    with pytest.raises(ValueError, match="allowed for a network with classes = 0 is None"):
        network()(x, MIXED, labels)
    with pytest.raises(ValueError, match=r"labels lie in \[1, 4\]: allowed is 0 to 3"):
        model(x, MIXED, labels.clamp(min=1) + torch.tensor([0, 0, 1, 0, 0]))


def test_large_batches_are_gathered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = network(classes=2), images(5, *SHAPE)
    want = model(x, MIXED).detach()
    for size in (1, 100, 200):
        monkeypatch.setattr(untied, "GATHERED", size)
        with torch.no_grad():
            torch.testing.assert_close(model(x, MIXED), want, rtol=1e-6, atol=1e-6)


def test_an_empty_batch() -> None:
    model = network(classes=2)
    none = torch.zeros(0, dtype=torch.int64)
    assert model(images(0, *SHAPE).reshape(0, *SHAPE), none, none).shape == (0, *SHAPE)


def test_channels_of_the_output() -> None:
    model = network(outputs=5, learned_variance=True)
    assert model(images(5, *SHAPE), MIXED).shape == (5, 5, 3, 2)
    with pytest.raises(ValueError, match="outputs = 0: allowed is an integer of at least 1"):
        network(outputs=0)


def test_a_network_compiles_to_one_graph() -> None:
    model = network(classes=3)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    labels = torch.tensor([0, 2, 3, 1, 0])
    for seed in range(2):
        x, t = images(5, *SHAPE, seed=seed), MIXED.roll(seed)
        torch.testing.assert_close(compiled(x, t, labels), model(x, t, labels))
    torch._dynamo.reset()


def test_levels_that_are_refused() -> None:
    model, x = network(), images(2, *SHAPE)
    wrong = [
        (torch.tensor([0, 1]), r"t lies in \[0, 1\]: allowed is 1 to 6"),
        (torch.tensor([1, 7]), r"t lies in \[1, 7\]: allowed is 1 to 6"),
        (torch.tensor([1]), r"t has shape \[1\] and type torch.int64: allowed is \[2\] of"),
        (torch.tensor([1.0, 2.0]), "and type torch.float32: allowed is"),
    ]
    for t, message in wrong:
        with pytest.raises(ValueError, match=message):
            model(x, t)
    with pytest.raises(ValueError, match=r"^x has shape \[2, 3, 3\]: allowed is \[any, 2, 3, 2\]"):
        model(images(2, 3, 3), MIXED[:2])


def test_initial_weights_have_the_fan_in_of_one_level() -> None:
    config = UntiedConfig(levels=20, hidden=(30, 50), classes=40)
    model = build(lambda: Untied(config, (1, 6, 6)), 5, "cpu")
    values = {name: value.detach() for name, value in model.named_parameters()}
    drawn = {"layers.0.weight": 36, "layers.1.weight": 30, "labels.table.weight": 30}
    for name, fan_in in drawn.items():
        unit = values.pop(name).flatten() * (3 * fan_in) ** 0.5
        assert stats.kstest(unit.numpy(), "norm").pvalue > 1e-4, name
        # Five standard deviations of the variance of n normal numbers.
        assert abs(float(unit.var()) - 1) < 5 * (2 / len(unit)) ** 0.5, name
    assert sorted(values) == ["head.bias", "head.weight", "layers.0.bias", "layers.1.bias"]
    assert all(value.eq(0).all() for value in values.values())
    assert list(model.buffers()) == []


def test_initial_weights_without_a_seed_have_it_too() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weight = Untied(UntiedConfig(levels=3, hidden=(80,)), (40,)).layers[0].weight
    assert isinstance(weight, Tensor)
    assert stats.kstest(weight.detach().flatten().numpy() * 40**0.5, "uniform", (-1, 2)).pvalue > (
        1e-4
    )


@pytest.mark.parametrize(
    ("config", "digest"),
    [
        (UNetConfig(channels=4, attention=(1,), classes=2), "9b7111448c27919d"),
        (MLPConfig(width=8, classes=2), "4c43486d1effbb2e"),
        (TransformerConfig(width=8, depth=1, heads=2, classes=2), "5afe8adbf459aab4"),
    ],
)
def test_initial_weights_of_other_networks_are_what_they_were(
    config: UNetConfig | MLPConfig | TransformerConfig, digest: str
) -> None:
    """A run that is begun again from its configuration begins with the same bits."""
    state = hashlib.sha256()
    model: nn.Module = build(lambda: build_network(config, (1, 4, 4)), 7, "cpu")
    for parameter in model.parameters():
        state.update(parameter.detach().numpy().tobytes())
    assert state.hexdigest()[:16] == digest


def test_a_configuration_survives_json() -> None:
    config = UntiedConfig(levels=3, hidden=(4, 5), classes=2, learned_variance=True, dropout=0.1)
    assert READER.validate_json(json.dumps(asdict(config))) == config
    model = build_network(config, (1, 2, 2))
    assert type(model) is Untied
    sizes = [(4 + 1) * 4, (4 + 1) * 5, (5 + 1) * 8, (2 + 1) * 4]
    assert sum(p.numel() for p in model.parameters()) == 3 * sum(sizes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"levels": 0}, "levels = 0: allowed is an integer of at least 1"),
        ({"levels": 1001}, "levels = 1001: allowed is at most 1000"),
        ({"hidden": ()}, r"hidden = (): allowed is at least one size from 1 to 65536"),
        ({"hidden": (3, 0)}, r"hidden = (3, 0): allowed is at least one size"),
        ({"hidden": (2**17,)}, r"hidden = (131072,): allowed is at least one size"),
        ({"dropout": 1.0}, "dropout = 1.0: allowed is a probability"),
        ({"classes": -1}, "classes = -1: allowed is 0 for none"),
        ({"width": 3}, "width"),
    ],
)
def test_sizes_that_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        READER.validate_python({"kind": "untied", **fields})
    assert message in str(caught.value)
    assert len(caught.value.errors()) == 1


def test_shapes_that_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image_shape = \(1, 0\): allowed is positive sizes"):
        build_network(UntiedConfig(), (1, 0))
    with pytest.raises(ValueError, match=r"shape = \(\): allowed is positive sizes"):
        Untied(UntiedConfig(), ())
