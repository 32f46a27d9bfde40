"""The Inception network whose features published Frechet distances are made of.

Its weights are not ours to pass on, and the published file is a pickle, which is never loaded here.
Whoever wants them turns that file into safetensors once; the error says how.
"""

import io
from functools import cache
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ddpm.errors import InputError
from ddpm.evaluation.library import library_module
from ddpm.extras import require_extra

WEIGHTS = "weights-inception-2015-12-05-6726825d"
ADDRESS = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS}.pth"
CONVERT = (
    "import torch, safetensors.torch as s; "
    "s.save_file(torch.load('{0}.pth', weights_only=True), '{0}.safetensors')"
)


class Features(nn.Module):
    """The first of the features that a network of torch-fidelity returns.

    Args:
        network: Takes uint8 [B, 3, H, W] and returns a tuple of features.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 [B, 3, H, W] to float32 [B, 2048]."""
        return cast(torch.Tensor, self.network(images)[0])


def weights_file() -> Path:
    """Where the weights are looked for: beside the file that torch-fidelity downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints" / f"{WEIGHTS}.safetensors"


def inception() -> nn.Module:
    """The network of torch-fidelity with its 2,048 pooled features.

    Raises:
        InputError: torch-fidelity or the weights are not there, or the weights are others.
    """
    require_extra("--features inception", "inception", "torch_fidelity")
    file = weights_file()
    if not file.is_file():
        raise InputError(
            f"features = 'inception': {file} is not there; download {ADDRESS} into its folder and "
            f'run there python -c "{CONVERT.format(WEIGHTS)}"'
        )
    return _network(file)


@cache
def _network(file: Path) -> nn.Module:
    module = library_module("torch_fidelity.feature_extractor_inceptionv3")
    # The class reads its weights with torch.load only, from a file or from memory; what it gets is
    # written here a moment before, so that nothing foreign is ever unpickled.
    memory = io.BytesIO()
    try:
        torch.save(load_file(file), memory)
        memory.seek(0)
        network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], memory)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: cannot be read as safetensors: {error}") from None
    except RuntimeError as error:
        raise InputError(f"{file}: not the weights of Inception: {error}") from None
    return Features(network)
