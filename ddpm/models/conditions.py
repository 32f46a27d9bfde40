"""What a network knows beside the image: its level and, where there are classes, its label."""

import torch
from torch import Tensor, nn


def level_layers(code: int, width: int) -> nn.Sequential:
    """Layers that turn the code of a level [B, code] into its embedding [B, width]."""
    return nn.Sequential(nn.Linear(code, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())


class Labels(nn.Module):
    """Embedding of class labels; one more row stands for having no label.

    Args:
        classes: Number K of classes, at least 1.
        width: Length of the embedding.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.table = nn.Embedding(classes + 1, width)

    def forward(self, labels: Tensor | None, batch: int, device: torch.device) -> Tensor:
        """Embed labels.

        Args:
            labels: int64 [B] in 0..K, where K is "no label"; None is K for all.
            batch: B.
            device: Where the images are.

        Returns:
            [B, width].

        Raises:
            ValueError: labels have another shape or type, or on a CPU another range.
        """
        if labels is None:
            labels = torch.full((batch,), self.classes, device=device)
        if labels.dtype != torch.int64 or labels.shape != (batch,):
            raise ValueError(
                f"labels have shape {list(labels.shape)} and type {labels.dtype}: allowed is "
                f"[{batch}] of torch.int64"
            )
        try:
            out: Tensor = self.table(labels)
        except IndexError:
            span = [int(labels.min()), int(labels.max())]
            raise ValueError(
                f"labels lie in {span}: allowed is 0 to {self.classes}, which means no label"
            ) from None
        return out


def conditional_labels(classes: int, width: int) -> Labels | None:
    """The embedding of labels of a network with this many classes; None for a network without."""
    return Labels(classes, width) if classes else None


def embed(
    layers: nn.Sequential, table: Labels | None, code: Tensor, labels: Tensor | None
) -> Tensor:
    """One embedding of levels and labels, which are added before the last activation.

    Added after it, the two would shift the activations each by itself; so a class can act on one
    level and not on another.

    Args:
        layers: Of `level_layers`.
        table: Of `conditional_labels`.
        code: Codes of the levels, [B, code].
        labels: int64 [B], or None for no labels.

    Returns:
        [B, width].

    Raises:
        ValueError: there are labels but no classes, or the labels are unfit.
    """
    *inner, last = layers
    for layer in inner:
        code = layer(code)
    if table is not None:
        code = code + table(labels, len(code), code.device)
    elif labels is not None:
        raise ValueError("labels are given: allowed for a network with classes = 0 is None")
    out: Tensor = last(code)
    return out
