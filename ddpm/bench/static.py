"""The static laboratory: what the compilers made of every op, and the time that follows from it.

Nothing here needs a card. Each op is compiled for each dtype and architecture, disassembled and
counted (`ddpm.kernels.gpu.ahead_of_time`); the predicted time of an element is the larger of its
bytes over the bandwidth of a card and its instructions over the rate at which they issue.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm.bench.cards import CARDS, cards_of
from ddpm.bench.peers import OPS, TASKS, Peer
from ddpm.errors import InputError
from ddpm.extras import require_extra

if TYPE_CHECKING:
    from ddpm.kernels.gpu.ahead_of_time import Measured

Row = dict[str, Any]

ITEM_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}

INSTRUCTION_LIMITS = {("q_sample_drawn", "bf16", "sm_90"): 35.0}
"""Most instructions for an element by op, dtype and architecture: with more, an H100 could not hide
the drawing of the noise behind reading and writing two bytes each."""


@dataclass(frozen=True)
class Task:
    """Work that takes one or more ops, and what it may cost."""

    ops: tuple[str, ...]
    traffic: int
    """Tensors of the size of the data, read or written, at most."""
    launches: int
    """Kernels at most."""


TASK_LIMITS = {
    "training, eps": Task(
        ("q_sample_drawn", "diffusion_loss[eps]", "diffusion_loss_backward[eps]"), 5, 3
    ),
    "training, score": Task(
        ("q_sample_drawn", "diffusion_loss[score]", "diffusion_loss_backward[score]"), 5, 3
    ),
    "training, x0": Task(
        ("q_sample_drawn", "diffusion_loss[x0]", "diffusion_loss_backward[x0]"), 7, 3
    ),
    "training, v": Task(
        ("q_sample_drawn", "diffusion_loss[v]", "diffusion_loss_backward[v]"), 7, 3
    ),
    "training, hybrid": Task(
        ("q_sample_drawn", "variational_loss[eps, log]", "variational_loss_backward[eps, log]"),
        10, 4,
    ),
    "training, VLB": Task(
        ("q_sample_drawn", "variational_loss[eps, log]", "variational_loss_backward[eps, log]"),
        10, 4,
    ),
    "step, DDPM": Task(("sampler_step",), 3, 1),
    "step, DDIM": Task(("sampler_step[not drawn]",), 3, 1),
    "step, guided": Task(("sampler_step[guided]",), 4, 1),
    "step, learned variance": Task(("sampler_step[log]",), 4, 1),
    "step, multistep": Task(("sampler_step_multistep",), 5, 1),
}  # fmt: skip
"""The tasks that are compared with the peers', by name."""


def rows() -> list[Row]:
    """Measure every op for every dtype and architecture.

    Returns:
        A dictionary for each, with the keys that `row` describes.

    Raises:
        InputError: Triton is not installed, or TRITON_INTERPRET is set.
    """
    require_extra("ddpm bench --static", "gpu", "triton")
    if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        raise InputError(
            "TRITON_INTERPRET is set: ddpm bench --static compiles kernels, and allowed is unset"
        )
    from ddpm.kernels.gpu.ahead_of_time import measure_all

    return [row(measured) for measured in measure_all()]


def row(measured: "Measured") -> Row:
    """Add predictions, peers and a verdict to what was measured of one op.

    Args:
        measured: of one op, dtype and architecture.

    Returns:
        The fields of `Measured` and: predicted_ps, picoseconds of an element by card (those of the
        same maker, the instructions being much the same); peers, predicted picoseconds by library
        and card; faults, in words; ok, whether there are none.
    """
    cards = cards_of(measured.arch)
    size = ITEM_BYTES[measured.dtype]
    moved, issued = measured.bytes_per_element, measured.instructions_per_element
    found = list(measured.faults)
    limit = INSTRUCTION_LIMITS.get((measured.op, measured.dtype, measured.arch))
    if limit is not None and issued > limit:
        found.append(f"takes {issued:g} of {limit:g} instructions")
    return asdict(measured) | {
        "predicted_ps": {
            name: _ps(card.picoseconds(moved, issued)) for name, card in cards.items()
        },
        "peers": {
            peer.library: {
                name: _ps(card.picoseconds(peer.traffic * size, 0)) for name, card in cards.items()
            }
            for peer in OPS.get(measured.op, ())
        },
        "faults": found,
        "ok": not found,
    }


def totals(measured: Iterable[Row], dtype: str = "fp32") -> list[Row]:
    """Add the rows of whole tasks up, and put the peers beside them.

    Args:
        measured: what `rows` gives.
        dtype: storage dtype to take.

    Returns:
        A dictionary for each task: task, traffic (tensors of the size of the data) and launches,
        the most of any architecture, their limits, predicted_ps by card, each with the code of its
        own architecture, peers (library, traffic, launches, small, note and predicted_ps of each)
        and ok.
    """
    chosen = {(r["op"], r["arch"]): r for r in measured if r["dtype"] == dtype}
    size = ITEM_BYTES[dtype]
    found = []
    for name, task in TASK_LIMITS.items():
        parts = {card: [chosen[op, CARDS[card].arch] for op in task.ops] for card in CARDS}
        traffic = max(sum(r["bytes_per_element"] for r in part) / size for part in parts.values())
        launches = max(sum(r["launches"] for r in part) for part in parts.values())
        found.append(
            {
                "task": name,
                "traffic": traffic,
                "traffic_limit": task.traffic,
                "launches": launches,
                "launches_limit": task.launches,
                "predicted_ps": {
                    card: _ps(sum(r["predicted_ps"][card] for r in part))
                    for card, part in parts.items()
                },
                "peers": [_peer(peer, size) for peer in TASKS.get(name, ())],
                "ok": traffic <= task.traffic and launches <= task.launches,
            }
        )
    return found


def _peer(peer: Peer, size: int) -> Row:
    """What a peer needs for a task, its instructions taken for free."""
    predicted = {
        name: _ps(card.picoseconds(peer.traffic * size, 0)) for name, card in CARDS.items()
    }
    return peer._asdict() | {"predicted_ps": predicted}


def _ps(value: float) -> float:
    return round(value, 3)


def print_static(as_json: bool, markdown: Path | None = None) -> bool:
    """Measure everything and print it.

    Args:
        as_json: print the rows as a list in JSON instead of tables.
        markdown: file whose marked part is replaced by the tables, or None.

    Returns:
        Whether every row and every total is as it should be.

    Raises:
        InputError: Triton is not installed, TRITON_INTERPRET is set, or the file has no marks.
    """
    from ddpm.bench.static_tables import check_marks, print_tables, write_tables

    if markdown is not None:
        check_marks(markdown)
    found = rows()
    sums = totals(found)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print_tables(found, sums)
    if markdown is not None:
        write_tables(markdown, found, sums)
    return all(r["ok"] for r in [*found, *sums])


def faults(found: Sequence[Row]) -> list[str]:
    """Say in one line each what is wrong with which row."""
    return [f"{r['op']} {r['dtype']} {r['arch']}: {fault}" for r in found for fault in r["faults"]]


def own_card(arch: str) -> str:
    """Name the card that kernels of an architecture are for."""
    (name,) = (name for name, card in CARDS.items() if card.arch == arch)
    return name
