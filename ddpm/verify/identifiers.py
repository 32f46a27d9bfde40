"""Names of the ledger's entries: a paper's letter and its equation, section or footnote."""

import re
from collections.abc import Iterable

PAPERS = {
    "T": "Turner et al., Denoising Diffusion Probabilistic Models in Six Simple Steps (2024)",
    "K": "Kurniawan, The Mathematical Foundations of Denoising Diffusion Probabilistic Models",
    "V": "a note on DDPM with proofs and a Fashion-MNIST experiment",
    "L": "Liu, Notes on Diffusion Models (2023)",
    "G": "Ghojogh and Ghodsi, Diffusion Models: Tutorial and Survey",
    "X": "in none of the papers, yet needed to implement or to test them",
}

_CITED = re.compile(r"(?<![\w-])[TKVLGX]-[A-Za-z0-9](?:[\w./-]*\w)?")
_RANGE = re.compile(r"([TKVLGX]-(?:\w+[.-])*?)(\d+)\.\.(\d+)")


def expand(ids: Iterable[str]) -> tuple[str, ...]:
    """Write ranges out: "K-58..60" becomes K-58, K-59, K-60."""
    return tuple(name for written in ids for name in _expand(written))


def cited(text: str) -> tuple[str, ...]:
    """Every id that a text names, ranges written out."""
    return expand(_CITED.findall(text))


def _expand(written: str) -> list[str]:
    if match := _RANGE.fullmatch(written):
        prefix, first, last = match.groups()
        return [f"{prefix}{number}" for number in range(int(first), int(last) + 1)]
    return [written]
