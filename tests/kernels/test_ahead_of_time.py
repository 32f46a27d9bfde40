"""What is read off compiled code: each fault is noticed, each count is right."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ddpm.kernels.gpu import ahead_of_time, gcn, sass
from ddpm.kernels.gpu.cases import cases
from ddpm.kernels.gpu.control_flow import trips, ways
from ddpm.kernels.gpu.disassembly import Instruction, Listing, Step
from ddpm.kernels.gpu.dry_run import dry_run
from ddpm.kernels.gpu.offsets import offset_bits
from tests.bench.static_rows import compiling_environment
from tests.kernels import bad_kernels

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def faulty() -> dict[tuple[str, str], dict[str, Any]]:
    # Kernels are interpreted in this process, so another one compiles them.
    command = [sys.executable, bad_kernels.__file__, "sm_90", "gfx942"]
    environment = compiling_environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {(r["op"], r["arch"]): r for r in found}


WORDS = {
    "": [],
    "narrow offsets": ["an offset has 32 bits"],
    "offsets widened too late": ["an offset has 32 bits"],
    "an unaligned pointer": ["an access of the body is 4 bytes wide"],
    "an extra pass": ["moves 20 of 12 B"],
    "two launches": ["moves 24 of 12 B", "takes 2 launches"],
    "a kernel of torch": ["takes 2 launches"],
    "one reading": [],
}


@pytest.mark.parametrize("arch", ["sm_90", "gfx942"])
@pytest.mark.parametrize("fault", WORDS)
def test_each_fault_is_noticed(
    faulty: dict[tuple[str, str], dict[str, Any]], fault: str, arch: str
) -> None:
    assert faulty[fault, arch]["faults"] == WORDS[fault]


def test_spills_are_noticed(faulty: dict[tuple[str, str], dict[str, Any]]) -> None:
    row = faulty["a spilling block", "sm_90"]
    assert row["registers"] <= 32
    assert row["spill_bytes"] > 0
    assert f"spills {row['spill_bytes']} bytes" in row["faults"]


def test_readings_are_counted_as_often_as_they_happen(
    faulty: dict[tuple[str, str], dict[str, Any]],
) -> None:
    once, thrice = (faulty[f"{n} reading{s}", "sm_90"] for n, s in (("one", ""), ("three", "s")))
    assert once["bytes_per_element"] == 4
    assert thrice["bytes_per_element"] == 12
    assert thrice["faults"] == ["moves 12 of 4 B"]


def test_cases_have_names_of_their_own() -> None:
    names = Counter(case.name for case in cases())
    assert max(names.values()) == 1
    with pytest.raises(ValueError, match=r"op is 'q'; allowed: q_sample, .*dynamic_threshold"):
        ahead_of_time.wanted(["q"])


def test_interpreted_kernels_are_refused() -> None:
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET is set"):
        dry_run("sm_90", lambda: None)
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET is set"):
        ahead_of_time.measure_all()


SASS = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/                   S2R R0, SR_TID.X ;
        /*0020*/                   ULDC.64 UR4, c[0x0][0x118] ;
        /*0030*/                   LDG.E.64 R2, [R2.64] ;
        /*0040*/                   MOV R9, 0xfffffffe ;
        /*0050*/                   IMAD.WIDE.U32 R4, R0, 0x10, R6 ;
        /*0060*/                   LDG.E.128 R12, desc[UR4][R4.64+0x400] ;
        /*0070*/                   IADD3 R9, R9, 0x2, RZ ;
        /*0080*/                   FFMA R12, R12, R13, R14 ;
        /*0090*/                   MUFU.RSQ R13, R12 ;
        /*00a0*/                   ISETP.GE.U32.AND P1, PT, R9, 0x6, PT ;
        /*00b0*/              @!P1 BRA 0x60 ;
        /*00c0*/               @P0 BRA 0xf0 ;
        /*00d0*/                   F2FP.BF16.F32.PACK_AB R12, R13, R12 ;
        /*00e0*/                   LOP3.LUT R12, R12, 0x1, RZ, 0xc0, !PT ;
        /*00f0*/                   STG.E.128 desc[UR4][R4.64], R12 ;
        /*0100*/                   STG.E [R2.64], R12 ;
        /*0110*/                   EXIT ;
        /*0120*/                   BRA 0x120;
        /*0130*/                   NOP;
"""
USAGE = " Function f:\n  REG:40 STACK:8 SHARED:0 LOCAL:16 CONSTANT[0]:600 TEXTURE:0"


def test_machine_code_of_nvidia() -> None:
    listing = sass.read(SASS, USAGE, 0, 0x140)
    assert (listing.registers, listing.spill_bytes) == (40, 24)
    short, long = ways(listing)
    # The loop runs for the counter at 0, 2, 4 and 6, and is left at 6.
    assert short.accesses == long.accesses == {"ld16": 4, "st16": 1}
    assert short.body_bytes == 80
    assert short.scalar_bytes == 8 + 4
    before, loop, skipped, after = 6, 6, 2, 3
    assert short.total == before + 4 * loop + 1 + after
    assert long.total == short.total + skipped
    # Of a pass of the loop: a load, a sum of whole numbers and a test, a product, a root, a jump.
    assert long.instructions == {
        "memory": 2 + 4 + 2, "integer": 1 + 4 * 2 + 1, "float": 4, "special": 4 + 1,
        "other": 3 + 4 + 1 + 1,
    }  # fmt: skip


def test_a_counter_that_starts_as_half_a_pair_of_zeros() -> None:
    listing = sass.read(SASS.replace("MOV R9, 0xfffffffe", "CS2R R8, SRZ"), USAGE, 0, 0x140)
    assert ways(listing)[0].accesses == {"ld16": 3, "st16": 1}


def test_kernels_in_one_listing_are_told_apart() -> None:
    listing = sass.read(SASS, USAGE, 0xD0, 0x50)
    assert [i.name for i in listing.instructions] == [
        "F2FP.BF16.F32.PACK_AB", "LOP3.LUT", "STG.E.128", "STG.E", "EXIT"
    ]  # fmt: skip


FORKED = """
        /*0000*/                   S2R R0, SR_TID.X ;
        /*0010*/               @P0 BRA 0x80 ;
        /*0020*/                   MOV R0, 0x1 ;
        /*0030*/                   LDG.E R8, [R0.64] ;
        /*0040*/               @P1 BRA 0x60 ;
        /*0050*/                   CALL.REL.NOINC 0xa0 ;
        /*0060*/                   STG.E [R0.64], R8 ;
        /*0070*/                   EXIT ;
        /*0080*/                   STG.E.128 [R0.64], R4 ;
        /*0090*/                   BRA 0x70 ;
        /*00a0*/                   DFMA R8, R8, R8, R8 ;
        /*00b0*/                   DFMA R8, R8, R8, R8 ;
        /*00c0*/                   RET.REL.NODEC R10 0x0 ;
"""
JOINED = """
        /*0000*/                   S2R R0, SR_TID.X ;
        /*0010*/               @P0 BRA 0x40 ;
        /*0020*/                   MOV R0, 0x1 ;
        /*0030*/                   FADD R4, R4, R4 ;
        /*0040*/                   STG.E.128 [R0.64], R4 ;
        /*0050*/                   EXIT ;
"""


def test_ways_that_part_do_not_disturb_each_other() -> None:
    # One of them overwrites the lane's number; the other's store follows it in the listing. What
    # is called is no way through the kernel, and the jump back to its end is no loop.
    found = ways(sass.read(FORKED, USAGE, 0, 0xD0))
    assert [(c.total, c.accesses, c.scalar_bytes) for c in found] == [
        (5, {"st16": 1}, 0), (7, {}, 8), (8, {}, 8),
    ]  # fmt: skip


def test_an_address_that_depends_on_the_lane_on_one_way_does_so_where_ways_join() -> None:
    assert sass.read(JOINED, USAGE, 0, 0x60).by_lane == {4}


GCN = """
f:
	s_load_dwordx2 s[2:3], s[0:1], 0x0
	s_waitcnt lgkmcnt(0)
	s_load_dword s9, s[2:3], 0x0
	v_cmp_gt_u32_e64 s[10:11], v0, v1
	s_load_dword s12, s[10:11], 0x0
	s_movk_i32 s6, 0xfffc
	v_lshlrev_b32_e32 v1, 4, v0
.LBB0_1:
	buffer_load_dwordx4 v[4:7], v1, s[4:7], 0 offen
	s_addk_i32 s6, 0x4
	v_fma_f32 v4, v4, v5, v6
	v_sqrt_f32_e32 v5, v4
	s_cmpk_lt_u32 s6, 0x8
	s_cbranch_scc1 .LBB0_1
	s_and_saveexec_b64 s[4:5], vcc
	s_cbranch_execz .LBB0_3
	v_mov_b32_e32 v1, 0
	global_store_dword v1, v4, s[2:3]
.LBB0_3:
	s_endpgm
	.section	.rodata,"a",@progbits
    .private_segment_fixed_size: 32
    .sgpr_spill_count: 1
    .vgpr_count:     48
    .vgpr_spill_count: 2
"""


def test_machine_code_of_amd() -> None:
    listing = gcn.read(GCN)
    assert (listing.registers, listing.spill_bytes) == (48, 32 + 8)
    short, long = ways(listing)
    # The counter is at 0, 4 and 8; waiting is not counted, nor are the kernel's arguments.
    assert short.accesses == long.accesses == {"ld16": 3}
    assert (short.scalar_bytes, long.scalar_bytes) == (8, 8 + 4)
    assert long.total == 6 + 3 * 6 + 2 + 2 + 1
    assert short.total == long.total - 2
    assert long.instructions["special"] == long.instructions["float"] == 3


def counter(
    action: str, start: int, step: int, bound: int, top: bool = False, signed: bool = True
) -> int:
    """Trips of a loop that the compiler could have made."""
    add = Instruction("add", "integer", frozenset("r"), frozenset("r"),
                      step=Step("add", step % 2**32, "r", "r"))  # fmt: skip
    test = Instruction("test", "integer", frozenset("r"), frozenset("p"),
                       step=Step(action, bound % 2**32, source="r", signed=signed))  # fmt: skip
    first = Instruction("set", "other", frozenset(), frozenset("r"),
                        step=Step("set", start % 2**32, "r"))  # fmt: skip
    body = [test, add] if top else [add, test]
    return trips([first, *body], 1, 3)


def test_trips_of_loops() -> None:
    assert counter("lt", 0, 1, 7) == 7
    assert counter("ge", -2048, 2048, 10240) == 6
    assert counter("ne", 12, -3, 0) == 4
    assert counter("lt", -2, 1, 3) == 5
    # As an unsigned word -1 is the largest, and 0 after it is less than 3.
    assert counter("lt", -2, 1, 3, signed=False) == 2
    # The test at the top of a loop is made once more than its body is run.
    assert counter("lt", 0, 1, 7, top=True) == 8
    with pytest.raises(RuntimeError, match="are not constants"):
        counter("lt", 0, 0, 7)


def test_a_loop_with_a_counter_from_memory_is_refused() -> None:
    text = SASS.replace("MOV R9, 0xfffffffe", "LDG.E R9, [R2.64]")
    with pytest.raises(RuntimeError, match="trips of the loop at instructions 6 to 12"):
        ways(sass.read(text, USAGE, 0, 0x140))


def test_nested_loops_multiply() -> None:
    outer, inner = (
        [
            Instruction("set", "other", frozenset(), frozenset(r), step=Step("set", 0, r)),
            Instruction("add", "integer", frozenset(r), frozenset(r), step=Step("add", 1, r, r)),
            Instruction("test", "integer", frozenset(r), frozenset("p"),
                        step=Step("lt", n, source=r)),
        ]
        for r, n in (("a", 3), ("b", 5))
    )  # fmt: skip
    code = (
        outer[0],
        outer[1],
        inner[0],
        inner[1],
        Instruction("load", "memory", access="ld", width=16, address=frozenset("x")),
        Instruction("load", "memory", access="ld", width=4),
        inner[2],
        Instruction("jump", "other", target=3),
        outer[2],
        Instruction("jump", "other", target=1),
        Instruction("end", "other", ends=True, falls=False),
    )
    (cost,) = ways(Listing(code, 1, 0, frozenset({4})))
    assert cost.accesses == {"ld16": 15}
    assert cost.scalar_bytes == 60
    assert cost.total == 1 + 3 * (2 + 5 * 5 + 2) + 1


TTIR = """
  tt.func public @f(%x_ptr: !tt.ptr<f32>, %row_ptr: !tt.ptr<i64>, %n: i32) {
    %c4_i32 = arith.constant 4 : i32 loc(#loc1)
    %c4_i64 = arith.constant 4 : i64 loc(#loc1)
    %pid = tt.get_program_id x : i32 loc(#loc2)
    %wide = arith.extsi %pid : i32 to i64 loc(#loc3)
    %lane = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32> loc(#loc4)
    OFFSET
    %p = tt.addptr %x_ptr, %at : !tt.ptr<f32>, TYPE loc(#loc9)
"""


@pytest.mark.parametrize(
    ("offset", "kind", "bits"),
    [
        ("%at = arith.muli %wide, %c4_i64 : i64", "i64", 64),
        ("%at = arith.muli %pid, %c4_i32 : i32", "i32", 32),
        ("%b = arith.muli %pid, %c4_i32 : i32\n%at = arith.extsi %b : i32 to i64", "i64", 32),
        # Bounded by constants; or divided, so that nothing wraps around.
        ("%at = arith.muli %lane, %c4_i32 : tensor<64xi32>", "tensor<64xi32>", 64),
        ("%b = arith.divsi %pid, %c4_i32 : i32\n%at = arith.extsi %b : i32 to i64", "i64", 64),
        ("%b = arith.remsi %pid, %c4_i32 : i32\n%at = arith.extsi %b : i32 to i64", "i64", 64),
        ("%b = arith.remsi %pid, %c4_i32 : i32\n%at = arith.addi %b, %c4_i32 : i32", "i32", 32),
        ("%b = arith.remsi %pid, %c4_i32 : i32\n%c = arith.muli %b, %c4_i32 : i32\n"
         "%at = arith.extsi %c : i32 to i64", "i64", 64),
        ("%at = arith.addi %n, %c4_i32 : i32", "i32", 32),
        ("%b = tt.load %row_ptr : !tt.ptr<i64>\n%at = arith.addi %b, %c4_i64 : i64", "i64", 64),
        ("%b = tt.load %row_ptr : !tt.ptr<i64>\n%at = arith.trunci %b : i64 to i32", "i32", 32),
        ("%b = tt.load %row_ptr : !tt.ptr<i64>\n%c = arith.trunci %b : i64 to i32\n"
         "%at = arith.extsi %c : i32 to i64", "i64", 32),
        ("%at = scf.for %i = %c4_i64 to %c4_i64 step %c4_i64 -> (i64) {", "i64", 64),
    ],
)  # fmt: skip
def test_width_of_offsets(offset: str, kind: str, bits: int) -> None:
    assert offset_bits(TTIR.replace("OFFSET", offset).replace("TYPE", kind)) == bits
