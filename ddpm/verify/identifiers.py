"""Names of the ledger's entries: a paper's letter and its equation, section or footnote."""

import re
from collections.abc import Iterable

PAPERS = {
    "T": "Turner et al., Denoising diffusion probabilistic models in six simple steps",
    "K": "Kurniawan, Denoising diffusion probabilistic models",
    "V": "A note on denoising diffusion probabilistic models, with proofs",
    "L": "Liu, Denoising diffusion models",
    "G": "Ghojogh and Ghodsi, Diffusion models: tutorial and survey",
    "X": "Derived here, needed by an implementation",
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
