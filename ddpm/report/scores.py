"""What eval.json says, as rows of a table; whatever it holds that is not known here follows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.errors import InputError
from ddpm.files import reading

MOST_LISTED = 20
"""Longest list of numbers that a table shows."""

KNOWN = (
    ("Bits/dim of held-out images, an upper bound: lower is better", "bits_per_dim", "baselines"),
    ("of it, the prior", "terms.prior", ""),
    ("of it, the levels", "terms.kl", ""),
    ("of it, the decoder", "terms.decoder", ""),
    (
        "Fréchet distance of pixels to held-out images: lower is better",
        "frechet.samples_test",
        "frechet.train_test",
    ),
    ("Share of each class among the samples", "class_fraction", ""),
    (
        "Fréchet distance of features: lower is better",
        "features.frechet.samples_test",
        "features.frechet.train_test",
    ),
    (
        "Kernel distance of features: lower is better",
        "features.kernel.samples_test",
        "features.kernel.train_test",
    ),
    (
        "Precision, share of samples that could be real: higher is better",
        "features.precision.samples_test",
        "features.precision.train_test",
    ),
    (
        "Recall, share of real images that could be drawn: higher is better",
        "features.recall.samples_test",
        "features.recall.train_test",
    ),
    ("Features that images are compared by", "features.extractor", ""),
    (
        "Distance to the nearest training image: far below means copying",
        "nearest.samples_train",
        "nearest.test_train",
    ),
)
"""What a row says, where its number stands, and where the numbers to compare it with stand."""

WORDS = {
    "train_test": "real training images",
    "test_train": "held-out images",
    "features.dimensions": "number of features",
    "flow.bits_per_dim": "bits/dim by the probability flow",
    "ema": "averaging rate of the weights",
    "num": "number of samples",
    "samples": "folder of the samples",
    "step": "updates of the weights",
    "test_images": "number of held-out images for the likelihood",
}
"""Names that need more words than they have, in rows or beside a number to compare with."""


@dataclass(frozen=True)
class Row:
    """One line: what was measured, on the model, and what to compare it with."""

    what: str
    model: str
    compare: str


def read_scores(file: Path) -> dict[str, Any]:
    """Content of eval.json, empty where there is none.

    Raises:
        InputError: it is there and is no JSON object.
    """
    if not file.exists():
        return {}
    with reading(file):
        text = file.read_bytes()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: holds no JSON object; remove it and run ddpm eval again")
    return content


def level_terms(scores: dict[str, Any]) -> list[object]:
    """Bits per dimension of levels 0..T, without those that the decoder stands for."""
    terms = scores.get("terms")
    values = terms.get("kl_by_level") if isinstance(terms, dict) else None
    if not isinstance(values, list):
        return []
    return values if len(values) < 3 else [None, None, *values[2:]]


def rows(scores: dict[str, Any]) -> list[Row]:
    """Rows for people, those that are known first."""
    leaves = dict(_leaves(scores, ""))
    found = []
    for what, key, beside in KNOWN:
        if (value := leaves.pop(key, None)) is not None:
            inside = [k for k in leaves if beside and f"{k}.".startswith(f"{beside}.")]
            others = [f"{_words(k.rpartition('.')[2])} {leaves.pop(k)}" for k in inside]
            found.append(Row(what, value, ", ".join(others)))
    rest = [Row(_words(key), value, "") for key, value in leaves.items()]
    return [*found, *rest]


def _leaves(value: object, key: str) -> Iterator[tuple[str, str]]:
    """Everything inside that fits into a cell, by its dotted name."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        if len(value) <= MOST_LISTED:
            yield key, " ".join(_text(one) for one in value)
    elif value is not None:
        yield key, _text(value)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _words(key: str) -> str:
    return WORDS.get(key, key.replace("_", " ").replace(".", ", "))
