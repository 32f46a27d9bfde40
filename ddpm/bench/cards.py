"""What the static laboratory knows of cards: one table, and the time that it predicts from it."""

from dataclasses import dataclass

LANES_PER_WARP = 32


@dataclass(frozen=True)
class Card:
    """Figures of a card, from its maker."""

    arch: str
    """Architecture its kernels are compiled for."""
    bandwidth: float
    """Bytes of memory a second."""
    units: int
    """Multiprocessors, or compute units."""
    lanes_per_clock: int
    """Lanes of a unit for which an instruction is issued in a cycle."""
    clock: float
    """Cycles a second."""
    source: str
    """Where the figures come from."""

    @property
    def issue_rate(self) -> float:
        """Instructions a second, counted once for each lane."""
        return self.units * self.lanes_per_clock * self.clock

    def picoseconds(self, bytes_moved: float, instructions: float) -> float:
        """Predict a time: the larger of what memory and what issuing take.

        Args:
            bytes_moved: of memory, at least 0.
            instructions: of a lane, at least 0.

        Returns:
            Picoseconds on a whole card that is busy with nothing else.
        """
        return 1e12 * max(bytes_moved / self.bandwidth, instructions / self.issue_rate)


CARDS = {
    "A100": Card(
        arch="sm_80",
        bandwidth=2.039e12,
        units=108,
        lanes_per_clock=4 * LANES_PER_WARP,
        clock=1.41e9,
        source="data sheet of the A100 80 GB SXM, white paper of the architecture",
    ),
    "H100": Card(
        arch="sm_90",
        bandwidth=3.35e12,
        units=132,
        lanes_per_clock=4 * LANES_PER_WARP,
        clock=1.755e9,
        source="data sheet of the H100 SXM; a clock below its highest, 1.98 GHz, which the power "
        "limit seldom lets it hold",
    ),
    "B200": Card(
        arch="sm_100",
        bandwidth=8.0e12,
        units=148,
        lanes_per_clock=4 * LANES_PER_WARP,
        clock=1.98e9,
        source="data sheet of the HGX B200; the clock is that of its 75 TFLOP/s in float32 over "
        "148 units of 128 lanes; drivers report 7.7 TB/s",
    ),
    "MI300X": Card(
        arch="gfx942",
        bandwidth=5.3e12,
        units=304,
        lanes_per_clock=4 * 16,
        clock=2.1e9,
        source="data sheet of the Instinct MI300X; four units of 16 lanes in each compute unit",
    ),
}
"""The cards, by name. Memory is that of the data sheet; copies reach about nine tenths of it."""


def cards_of(arch: str) -> dict[str, Card]:
    """Cards that run the kernels of an architecture, or the same kernels compiled for their own.

    Args:
        arch: as in "sm_90".

    Returns:
        Every card of the same maker, by name.
    """
    nvidia = arch.startswith("sm_")
    return {name: card for name, card in CARDS.items() if card.arch.startswith("sm_") == nvidia}
