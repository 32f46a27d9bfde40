"""`ddpm verify --accuracy`: rounding errors of every coefficient beside the usual tables."""

import json
import math
from dataclasses import asdict

from ddpm.commands.terminal import console
from ddpm.verify.accuracy import AccuracyRow, accuracy_rows, accuracy_table

LENGTHS = (1, 2, 10, 1000, 100000)
"""Numbers of levels that are measured."""

REFERENCE_ULP = 4.0
"""What the reference may be off by, in units of the last place of float64."""

PRODUCTION_ULP = 1.0
"""What production's tables may be off by, in units of the last place of float32."""


def print_accuracy(as_json: bool) -> bool:
    """Measure and print; return whether every coefficient keeps its bound."""
    with console.status("measuring a hundred thousand levels: about a minute"):
        rows = accuracy_rows(LENGTHS)
    if as_json:
        print(json.dumps([_plain(row) for row in rows], indent=2))
    else:
        console.print(accuracy_table(rows))
    # A quantity that a layer does not have is NaN there, and no comparison with it holds.
    return not any(
        row.reference_ulp > REFERENCE_ULP or row.production_ulp > PRODUCTION_ULP for row in rows
    )


def _plain(row: AccuracyRow) -> dict[str, str | float | None]:
    """A row without what JSON cannot say: infinity in words, and null for what a layer lacks."""
    return {
        name: None if value != value else "infinity" if value == math.inf else value
        for name, value in asdict(row).items()
    }
