"""The static laboratory: every op at its floor on every architecture, and its predictions."""

import json
from pathlib import Path
from typing import Any

import pytest

from ddpm.bench import cards, peers, static, static_tables
from ddpm.errors import InputError
from tests.bench.static_rows import Row, static_rows

ARCHS = ("sm_80", "sm_90", "sm_100", "gfx942")
DTYPES = ("fp32", "fp16", "bf16")
PROMISED = {
    "op", "dtype", "arch", "bytes_per_element", "floor_bytes_per_element", "access_bytes",
    "offset_bits", "registers", "spill_bytes", "shared_bytes", "instructions_per_element",
    "instructions", "predicted_ps", "ok",
}  # fmt: skip

# Tensors that an op has to read and write, counted by hand from what it computes.
FLOORS = {
    "q_sample": 3, "q_sample_drawn": 2, "q_sample_v": 4, "q_sample_v[drawn]": 3, "normal": 1,
    "diffusion_loss[eps]": 1, "diffusion_loss[x0]": 2, "diffusion_loss[v]": 2,
    "diffusion_loss[score]": 1,
    "diffusion_loss_backward[eps]": 2, "diffusion_loss_backward[x0]": 3,
    "diffusion_loss_backward[v]": 3, "diffusion_loss_backward[score]": 2,
    "variational_loss[eps, log]": 2, "variational_loss[v, sigmoid]": 3,
    "variational_loss_backward[eps, log]": 4, "variational_loss_backward[v, sigmoid]": 5,
    "sampler_step": 3, "sampler_step[not drawn]": 3, "sampler_step[guided]": 4,
    "sampler_step[log]": 4, "sampler_step[sigmoid]": 4, "sampler_step[guided, log]": 5,
    "sampler_step[thresholded]": 3, "sampler_step_multistep": 5,
    "sampler_step_multistep[drawn]": 5,
}  # fmt: skip
# A pass for each digit of the bits of a number, through the caches.
PASSES = {"sm_80": 4, "sm_90": 4, "sm_100": 4, "gfx942": 8}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    return static_rows(tmp_path_factory)


def test_every_op_dtype_and_architecture_has_a_row(rows: list[Row]) -> None:
    want = [(o, d, a) for o in [*FLOORS, "dynamic_threshold"] for d in DTYPES for a in ARCHS]
    assert sorted((r["op"], r["dtype"], r["arch"]) for r in rows) == sorted(want)
    assert all(set(r) >= PROMISED for r in rows)


def test_nothing_leaves_its_floor(rows: list[Row]) -> None:
    for row in rows:
        size = 4 if row["dtype"] == "fp32" else 2
        tensors = FLOORS.get(row["op"]) or 2 * PASSES[row["arch"]]
        assert row["bytes_per_element"] == tensors * size, row
        assert row["floor_bytes_per_element"] == tensors * size, row


def test_nothing_spills(rows: list[Row]) -> None:
    assert [static.faults([r]) for r in rows if r["spill_bytes"] != 0] == []


def test_bodies_move_sixteen_bytes(rows: list[Row]) -> None:
    assert [static.faults([r]) for r in rows if r["access_bytes"] < 16] == []


def test_offsets_have_64_bits(rows: list[Row]) -> None:
    assert [static.faults([r]) for r in rows if r["offset_bits"] != 64] == []


def test_each_op_is_one_launch(rows: list[Row]) -> None:
    assert [static.faults([r]) for r in rows if r["launches"] != 1] == []


def test_elementwise_kernels_exchange_nothing(rows: list[Row]) -> None:
    # Shared memory would mean that the draw and the accesses disagree on who owns an element.
    sums = ("diffusion_loss[", "variational_loss[", "dynamic_threshold")
    kept = [r for r in rows if not r["op"].startswith(sums) and r["arch"].startswith("sm_")]
    assert len(kept) > 100
    assert [r for r in kept if r["shared_bytes"]] == []


def test_drawing_stays_within_the_instructions_of_a_card(rows: list[Row]) -> None:
    (row,) = (r for r in rows if (r["op"], r["dtype"], r["arch"]) == DRAWING)
    assert row["instructions_per_element"] <= 35.0


DRAWING = ("q_sample_drawn", "bf16", "sm_90")


def test_classes_add_up(rows: list[Row]) -> None:
    for row in rows:
        total = sum(row["instructions"].values())
        assert total == pytest.approx(row["instructions_per_element"], abs=0.03), row
        assert row["longest_instructions_per_element"] >= row["instructions_per_element"]


def test_every_row_is_ok(rows: list[Row]) -> None:
    assert static.faults(rows) == []
    assert all(r["ok"] for r in rows)


def test_whole_tasks_keep_their_limits(rows: list[Row]) -> None:
    limits = {"training, eps": (5, 3), "training, hybrid": (10, 4), "step, DDPM": (3, 1),
              "step, DDIM": (3, 1), "step, guided": (4, 1), "step, learned variance": (4, 1),
              "step, multistep": (5, 1)}  # fmt: skip
    for dtype in DTYPES:
        found = {task["task"]: task for task in static.totals(rows, dtype)}
        assert all(task["ok"] for task in found.values()), found
        for name, (traffic, launches) in limits.items():
            task = found[name]
            assert task["traffic"] <= traffic, task
            assert task["launches"] <= launches, task
            assert all(peer["traffic"] > traffic for peer in task["peers"]), task
            assert task["peers"], task


def test_a_task_adds_up_the_rows_of_each_card(rows: list[Row]) -> None:
    task = next(t for t in static.totals(rows, "bf16") if t["task"] == "training, eps")
    for name, arch in (("H100", "sm_90"), ("MI300X", "gfx942")):
        parts = [r for r in rows if (r["dtype"], r["arch"]) == ("bf16", arch)]
        names = ("q_sample_drawn", "diffusion_loss[eps]", "diffusion_loss_backward[eps]")
        total = sum(r["predicted_ps"][name] for r in parts if r["op"] in names)
        assert task["predicted_ps"][name] == pytest.approx(total, abs=2e-3)


def test_a_task_beyond_its_limit_is_not_ok(rows: list[Row]) -> None:
    worse = [
        r | {"bytes_per_element": 16.0} if r["op"] == "sampler_step" and r["arch"] == "sm_80" else r
        for r in rows
    ]
    assert [t["task"] for t in static.totals(worse) if not t["ok"]] == ["step, DDPM"]


def test_the_documentation_holds_these_numbers(rows: list[Row]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "kernels.md").read_text(encoding="utf-8")
    written = text.split(static_tables.BEGIN)[1].split(static_tables.END)[0]
    assert written.strip() == static_tables.tables(rows, static.totals(rows)).strip(), (
        "ddpm bench --static --markdown docs/kernels.md writes the tables anew"
    )


def test_predictions_by_hand() -> None:
    card = cards.CARDS["H100"]
    # Six bytes at 3.35 TB/s; 7 instructions at 132 units of 128 lanes and 1.755 GHz are faster.
    assert card.picoseconds(6, 7) == pytest.approx(1.7910, abs=1e-4)
    assert card.picoseconds(6, 70) == pytest.approx(2.3606, abs=1e-4)
    assert {name: round(c.issue_rate / 1e12, 2) for name, c in cards.CARDS.items()} == {
        "A100": 19.49, "H100": 29.65, "B200": 37.51, "MI300X": 40.86
    }  # fmt: skip
    assert set(cards.cards_of("sm_80")) == {"A100", "H100", "B200"}
    assert set(cards.cards_of("gfx942")) == {"MI300X"}


def test_predictions_of_the_rows(rows: list[Row]) -> None:
    for row in rows:
        want = ["MI300X"] if row["arch"] == "gfx942" else ["A100", "H100", "B200"]
        assert list(row["predicted_ps"]) == want
        for name, value in row["predicted_ps"].items():
            card = cards.CARDS[name]
            memory = 1e12 * row["bytes_per_element"] / card.bandwidth
            assert value >= memory - 1e-3, row
            if row["instructions_per_element"] < 10:
                assert value == pytest.approx(memory, abs=1e-3), row


def test_peers_that_have_a_row_move_more(rows: list[Row]) -> None:
    assert set(peers.OPS) <= {r["op"] for r in rows}
    assert set(peers.TASKS) <= set(static.TASK_LIMITS)
    eager: dict[tuple[str, str], tuple[float, int]] = {
        ("training, eps", "diffusers"): (15, 7),
        ("training, hybrid", "guided-diffusion"): (349.5, 152),
        ("step, DDPM", "diffusers"): (22, 10),
        ("step, DDIM", "guided-diffusion"): (67, 31),
    }
    for (task, library), counts in eager.items():
        assert [(p.traffic, p.launches) for p in peers.TASKS[task] if p.library == library] == [
            counts
        ]


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("bytes_per_element", 10.0, "moves 10 of 4 B"),
        ("access_bytes", 8, "8 bytes wide"),
        ("offset_bits", 32, "32 bits"),
        ("spill_bytes", 4, "spills 4 bytes"),
        ("launches", 2, "2 launches"),
        ("instructions_per_element", 35.01, "35.01 of 35 instructions"),
    ],
)
def test_a_fault_makes_a_row_red(field: str, value: object, word: str) -> None:
    assert static.row(measured())["ok"]
    row = static.row(measured(**{field: value}))
    assert not row["ok"]
    assert word in " ".join(static.faults([row]))


def measured(**changed: Any) -> Any:
    from ddpm.kernels.gpu.ahead_of_time import Measured

    good: dict[str, Any] = {
        "op": "q_sample_drawn", "dtype": "bf16", "arch": "sm_90", "bytes_per_element": 4.0,
        "floor_bytes_per_element": 4.0, "access_bytes": 16, "accesses": {"ld16": 4, "st16": 4},
        "scalar_bytes": 36, "offset_bits": 64, "registers": 64, "spill_bytes": 0,
        "shared_bytes": 0, "threads": 32, "elements_per_thread": 64.0,
        "instructions_per_element": 34.0, "instructions": {"float": 34.0},
        "longest_instructions_per_element": 34.0, "launches": 1, "rare": "",
    }  # fmt: skip
    return Measured(**(good | changed))


def test_json_is_a_list_of_rows(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(static, "rows", lambda: rows)
    assert static.print_static(as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed == rows
    assert static.print_static(as_json=False)
    assert "sampler_step[guided]" in capsys.readouterr().out


def test_one_bad_row_fails_the_command(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [*rows[1:], rows[0] | {"ok": False, "faults": ["spills 8 bytes"]}]
    monkeypatch.setattr(static, "rows", lambda: bad)
    assert not static.print_static(as_json=False)
    assert "q_sample fp32 sm_80: spills 8 bytes" in capsys.readouterr().out


def test_tables_are_written_between_marks(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(static, "rows", lambda: rows)
    path = tmp_path / "page.md"
    path.write_text(f"before\n{static_tables.BEGIN}\nwhat was there\n{static_tables.END}\nafter\n")
    static.print_static(as_json=True, markdown=path)
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "what was there" not in text
    assert "| q_sample_drawn | bf16 | 4 | 4 | 16 | 64 |" in text


@pytest.mark.parametrize("name", ["absent.md", "page.md"])
def test_a_file_without_marks_is_refused_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "rows", lambda: pytest.fail("compiled first"))
    (tmp_path / "page.md").write_text("no marks")
    path = tmp_path / name
    with pytest.raises(InputError, match=rf"--markdown = .*{name}'"):
        static.print_static(as_json=True, markdown=path)


def test_interpreted_kernels_are_refused() -> None:
    with pytest.raises(InputError, match="TRITON_INTERPRET is set"):
        static.rows()
