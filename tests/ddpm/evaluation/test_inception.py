"""Inception: an error that says how to get its weights, and no pickle of anybody's."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ddpm.errors import InputError
from ddpm.evaluation import inception as module
from ddpm.evaluation.extractors import check_features
from ddpm.evaluation.inception import inception, weights_file
from ddpm.evaluation.library import library_module

pytestmark = pytest.mark.skipif(
    find_spec("torch_fidelity") is None, reason="torch-fidelity is not installed"
)


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    weights_file().parent.mkdir()


def random_weights(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Names and shapes from the class itself, which can only be built with some weights."""
    library = library_module("torch_fidelity.feature_extractor_inceptionv3")
    with monkeypatch.context() as patch:
        patch.setattr(library, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(nn.Module, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = library.FeatureExtractorInceptionV3("any", ["2048"])
    return {k: v.contiguous() for k, v in network.state_dict().items()}


def test_without_weights_the_error_says_what_to_do() -> None:
    with pytest.raises(InputError) as caught:
        check_features("inception")
    for word in (str(weights_file()), "https://", "weights_only=True", "save_file"):
        assert word in str(caught.value)


def test_the_published_pickle_alone_is_not_touched() -> None:
    weights_file().with_suffix(".pth").write_bytes(b"\x80\x02cos\nsystem\n")
    with pytest.raises(InputError, match="is not there"):
        inception()


def test_weights_from_safetensors(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_weights(monkeypatch)
    save_file(weights, weights_file())
    network = inception()
    loaded = network.state_dict()
    assert all(torch.equal(loaded[f"network.{name}"], value) for name, value in weights.items())
    with torch.no_grad():
        features = network(torch.full((1, 3, 8, 8), 100, dtype=torch.uint8))
    assert features.shape == (1, 2048)


@pytest.mark.parametrize("content", [b"", b"\x80\x02cos\nsystem\n" * 9])
def test_a_file_that_is_no_safetensors(content: bytes) -> None:
    weights_file().write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        inception()


def test_weights_of_another_network() -> None:
    save_file({"weight": torch.zeros(3)}, weights_file())
    with pytest.raises(InputError, match="not the weights of Inception"):
        inception()


def test_without_torch_fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddpm.extras.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"torch_fidelity: install .*ddpm-proven\[inception\]"):
        module.inception()
