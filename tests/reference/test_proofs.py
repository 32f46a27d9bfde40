"""Every proof holds, every misprint is refuted, and the proofs notice each misprint put back."""

import pytest

from ddpm.verify.injection import injected
from ddpm.verify.registry import PROOFS, Proof, load
from ddpm.verify.runner import run

BROKEN = load()
MISPRINTS = [proof for proof in PROOFS.values() if proof.misprint]


def name(proof: Proof) -> str:
    return proof.name


def test_every_module_of_proofs_can_be_imported() -> None:
    assert BROKEN == {}


@pytest.mark.parametrize("proof", PROOFS.values(), ids=name)
def test_proof(proof: Proof) -> None:
    assert run(proof).failure == ""


@pytest.mark.parametrize("proof", MISPRINTS, ids=name)
def test_a_proof_notices_the_misprint(proof: Proof) -> None:
    assert proof.misprint
    proofs = [p for p in PROOFS.values() if not p.misprint and set(p.ids) & set(proof.ids)]
    with injected(proof.of[0], proof.misprint.printed):
        caught = [p.name for p in proofs if run(p, shrink=False).failure]
    assert caught, f"none of {[p.name for p in proofs]} fails with the printed form"
    assert not any(run(p, shrink=False, examples=1).failure for p in proofs)
