"""Each switch of the computation against the plain one: what it changes, and what it must not."""

from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpm.bench.memory import peak_bytes
from ddpm.config import ComputeConfig
from ddpm.models.unet import Stage
from ddpm.training.compute import Compute, blocks
from tests.ddpm.training.computing import (
    BOUNDS,
    CPU,
    Updates,
    assert_close,
    assert_same_bits,
    flat,
    losses_of,
    network,
    plain_updates,
    updates,
)


@pytest.fixture(scope="module")
def plain() -> Updates:
    return plain_updates(network())


def test_the_default_is_the_plain_update_bit_for_bit(plain: Updates) -> None:
    assert_same_bits(updates(ComputeConfig()), plain)
    assert Compute(ComputeConfig(), CPU).tensors() == {}


@pytest.mark.parametrize("precision", BOUNDS)
def test_a_reduced_precision_is_that_of_the_layers_alone(precision: Any, plain: Updates) -> None:
    config = ComputeConfig(precision=precision)
    reduced = updates(config)
    assert_close(reduced, plain, *BOUNDS[precision])
    assert not torch.equal(reduced.losses[0], plain.losses[0])
    model = network()
    outputs = seen_dtypes(Compute(config, CPU), model)
    assert outputs == {getattr(torch, precision)}
    assert not torch.is_autocast_enabled("cpu")


def seen_dtypes(compute: Compute, model: nn.Module) -> set[torch.dtype]:
    """Of the outputs of all convolutions and matrix products."""
    seen = set()
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    losses_of(compute.compiled(model), 0)
    return seen


def test_channels_last_changes_the_order_of_sums_alone(plain: Updates) -> None:
    config = ComputeConfig(channels_last=True)
    assert_close(updates(config), plain, 1e-5, 1e-5)


def test_channels_last_reaches_weights_and_activations() -> None:
    compute, model = Compute(ComputeConfig(channels_last=True), CPU), network()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    call = compute.compiled(compute.prepare(model))
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert is_channels_last(model.stem.weight)
    layouts = []
    model.head.register_forward_hook(lambda _module, inputs, _: layouts.append(inputs[0]))
    output = call(torch.zeros(2, 3, 8, 8), torch.tensor([1, 2]))
    assert is_channels_last(layouts[0])
    assert output.is_contiguous()


def is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def test_weights_that_will_be_sharded_keep_their_layout_and_activations_do_not() -> None:
    compute, model = Compute(ComputeConfig(channels_last=True), CPU), network()
    call = compute.compiled(compute.prepare(model, sharded=True))
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    layouts = []
    model.head.register_forward_hook(lambda _module, inputs, _: layouts.append(inputs[0]))
    assert call(torch.zeros(2, 3, 8, 8), torch.tensor([1, 2])).is_contiguous()
    assert is_channels_last(layouts[0])


def test_repeated_activations_are_those_that_were_dropped(plain: Updates) -> None:
    config = ComputeConfig(checkpoint_activations=True)
    assert_same_bits(updates(config), plain)
    assert_same_bits(updates(config, network(0.5)), plain_updates(network(0.5)))


class Saved:
    """Counts the bytes that autograd keeps, each memory once, and what blocks are given."""

    def __init__(self, model: nn.Module) -> None:
        self.kept: dict[int, int] = {}
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.ignored = weights
        for block in blocks(model):
            block.register_forward_pre_hook(lambda _block, inputs: self.add(*inputs))

    def add(self, *tensors: Tensor) -> None:
        for x in tensors:
            storage = x.untyped_storage()
            if storage.data_ptr() not in self.ignored:
                self.kept[storage.data_ptr()] = storage.nbytes()

    def pack(self, x: Tensor) -> Tensor:
        self.add(x)
        return x


def saved_bytes(config: ComputeConfig) -> int:
    model, compute = network(), Compute(config, CPU)
    saved = Saved(model)
    call = compute.compiled(compute.prepare(model))
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda x: x):
        losses = losses_of(call, 0, 16)
    assert losses.requires_grad
    return sum(saved.kept.values())


def test_repeated_activations_take_less_memory() -> None:
    configs = ComputeConfig(), ComputeConfig(checkpoint_activations=True)
    before, after = map(saved_bytes, configs)
    assert after < 0.4 * before

    def peak(config: ComputeConfig) -> int:
        model, compute = network(), Compute(config, CPU)
        call = compute.compiled(compute.prepare(model))

        def gradient() -> dict[str, Tensor]:
            compute.backward(losses_of(call, 0, 32).mean())
            return {}

        # The gradients themselves are there from the first time on.
        gradient()
        return peak_bytes(gradient, CPU)

    before, after = map(peak, configs)
    assert after < 0.6 * before


class Nested(nn.Module):
    """Blocks in a list of lists, one inside another, one outside; and a layer in a list."""

    def __init__(self) -> None:
        super().__init__()
        inner = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
        self.rows = nn.ModuleList([nn.ModuleList([inner]), nn.ModuleList([nn.Linear(2, 2)])])
        self.outside = nn.Sequential(nn.Linear(2, 2))


def test_blocks_are_the_repeated_parts_outermost_first() -> None:
    model = network()
    found = blocks(model)
    assert model.middle in found
    assert {type(block).__name__ for block in found} == {"Stage", "Upsample"}
    assert [b for b in found if isinstance(b, Stage)] == [
        b for b in model.modules() if isinstance(b, Stage)
    ]
    nested = Nested()
    assert blocks(nested) == [nested.rows[0][0], nested.outside]  # type: ignore[index]
    assert blocks(nn.Linear(2, 2)) == []


def test_a_network_without_blocks_is_repeated_as_a_whole() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Tanh())
    results = []
    for config in (ComputeConfig(), ComputeConfig(checkpoint_activations=True)):
        compute = Compute(config, CPU)
        call = compute.compiled(compute.prepare(model))
        torch.default_generator.manual_seed(5)
        model.zero_grad()
        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(partial(keep, kept), lambda x: x):
            loss = call(torch.ones(3, 4)).square().sum()
        compute.backward(loss)
        gradient = flat(p.grad for p in model.parameters() if p.grad is not None)
        results.append((loss, gradient, len(kept)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert results[1][2] < results[0][2]


def keep(kept: list[Tensor], x: Tensor) -> Tensor:
    kept.append(x)
    return x


@pytest.mark.parametrize(
    ("precision", "gathered"),
    [("float32", None), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_sharded_weights_are_gathered_reduced_and_summed_in_float32(
    precision: Any, gathered: torch.dtype | None
) -> None:
    policy = Compute(ComputeConfig(precision=precision), CPU).fsdp_policy()
    assert policy.param_dtype == gathered
    assert policy.reduce_dtype in (None, torch.float32)
    assert (policy.reduce_dtype is None) == (gathered is None)
    assert policy.cast_forward_inputs is False


@pytest.mark.parametrize(
    ("precision", "channels_last", "repeated"),
    list(product(["float32", "bfloat16"], [False, True], [False, True])),
)
def test_an_output_is_contiguous_float32_for_any_size(
    precision: Any, channels_last: bool, repeated: bool
) -> None:
    """Sides that are not halved evenly are cropped, and a crop is not contiguous."""
    config = ComputeConfig(
        precision=precision, channels_last=channels_last, checkpoint_activations=repeated
    )
    compute = Compute(config, CPU)
    call = compute.compiled(compute.prepare(network()))
    output = call(torch.zeros(2, 3, 9, 7), torch.tensor([1, 2]))
    assert output.shape == (2, 3, 9, 7)
    assert output.dtype == torch.float32
    assert output.is_contiguous()
