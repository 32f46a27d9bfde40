import io

import mpmath as mp
import numpy as np
import pytest
from rich.console import Console

from ddpm.reference.chain import Chain
from ddpm.schedule import Schedule
from ddpm.verify import accuracy
from ddpm.verify.accuracy import SCHEDULES, AccuracyRow, accuracy_rows, accuracy_table

# What the design promises: 4 units of float64 in the reference, 1 of float32 in production.
REFERENCE = 4.0
PRODUCTION = 1.0
NOT_TABULATED = {"bound weight of eps", "bound weight of v", "simple weight"}


@pytest.fixture(scope="module")
def rows() -> dict[str, AccuracyRow]:
    return {row.quantity: row for row in accuracy_rows((1, 2, 10, 1000))}


def test_every_coefficient_keeps_its_digits(rows: dict[str, AccuracyRow]) -> None:
    assert len(rows) == 22
    for row in rows.values():
        assert 0 < row.reference_ulp <= REFERENCE, row
        assert row.quantity in NOT_TABULATED or 0 < row.production_ulp <= PRODUCTION, row
    assert {row.quantity for row in rows.values() if np.isnan(row.production_ulp)} == NOT_TABULATED


def test_the_usual_way_loses_digits(rows: dict[str, AccuracyRow]) -> None:
    for row in rows.values():
        assert row.peers_float32_ulp > PRODUCTION, row
        assert row.peers_float64_ulp > PRODUCTION, row
    assert rows["1 - alpha_bar"].peers_float32_ulp > 1e6
    assert rows["SNR drop"].peers_float64_ulp > 1e10


def test_the_error_of_a_first_linear_beta_in_float32() -> None:
    (row,) = (r for r in accuracy_rows((1000,), ("linear",)) if r.quantity == "1 - alpha_bar")
    # 1 - alpha_bar_1 is 1e-4; the float32 product rounds at 6e-8, that is 1.7e-4 of it or less.
    relative = row.peers_float32_ulp * np.spacing(np.float32(1e-4)) / 1e-4
    assert 1e-5 < relative < 6e-4


def test_a_wrong_table_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Chain.alpha_bar.func  # type: ignore[attr-defined]
    monkeypatch.setattr(Chain, "alpha_bar", property(lambda chain: table(chain) * (1 + 2.0**-49)))
    monkeypatch.setattr(
        Schedule, "one_minus_alpha_bar", property(lambda schedule: 1 - schedule.alpha_bar)
    )
    rows = {row.quantity: row for row in accuracy_rows((10,), ("constant 1e-12",))}
    assert rows["alpha_bar"].reference_ulp > REFERENCE
    assert rows["1 - alpha_bar"].production_ulp > PRODUCTION
    assert rows["log SNR"].reference_ulp < REFERENCE


def test_zero_snr_and_every_schedule_are_in_it() -> None:
    chains = [make(10) for make in SCHEDULES.values()]
    assert sum(chain.zero_terminal_snr for chain in chains) == 1
    assert min(chain.betas.min() for chain in chains) == 1e-12
    assert all(make(1).steps == 1 for make in SCHEDULES.values())


def test_units_in_the_last_place() -> None:
    want = [mp.mpf(1), mp.mpf(0), mp.inf, mp.nan, mp.mpf(10) ** 400]
    exact = np.array([1.0, 0.0, np.inf, 5.0, np.inf])

    def worst(**changed: float) -> float:
        got = exact.copy()
        for index, value in changed.items():
            got[int(index[1:])] = value
        return accuracy._worst(got, want, np.float64)

    assert worst() == 0
    assert worst(_0=1 + 2.0**-51) == 2
    assert worst(_1=5e-324) == 1
    assert worst(_3=np.nan) == 0
    assert worst(_2=1e308) == worst(_0=np.nan) == worst(_0=np.inf) == worst(_4=1.0) == np.inf
    assert accuracy._worst(exact[:1] + 2.0**-23, want, np.float32) == 1
    assert np.isnan(accuracy._worst(None, want, np.float32))


def test_levels_that_are_looked_at() -> None:
    for steps, singles, jumps in ((1, 1, 1), (2, 2, 2), (300, 300, 50), (100000, 300, 50)):
        pairs = accuracy._pairs(steps)
        assert pairs.single.sum() == singles
        assert (~pairs.single).sum() == jumps
        assert {1, steps} <= set(pairs.t[pairs.single].tolist())
        np.testing.assert_array_equal(pairs.t[pairs.single] - pairs.s[pairs.single], 1)
        assert pairs.t[singles] == steps
        assert pairs.s[-1] == 0


def test_table() -> None:
    text = io.StringIO()
    table = accuracy_table([AccuracyRow("a", 0.5, np.nan, 12345.0, np.inf)])
    Console(width=80, file=text).print(table)
    assert "reference" in text.getvalue()
    assert all(f" {cell} " in text.getvalue() for cell in ("a", "0.50", "-", "1.2e+04", "inf"))
