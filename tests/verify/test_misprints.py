"""The proofs notice every misprint that is put in the place of its correction."""

import pytest

from ddpm.verify.injection import injected
from ddpm.verify.registry import PROOFS, Proof, load
from ddpm.verify.runner import run

load()
MISPRINTS = [proof for proof in PROOFS.values() if proof.misprint]


@pytest.mark.parametrize("proof", MISPRINTS, ids=lambda proof: proof.name)
def test_a_proof_notices_the_misprint(proof: Proof) -> None:
    assert proof.misprint
    proofs = [p for p in PROOFS.values() if not p.misprint and set(p.ids) & set(proof.ids)]
    with injected(proof.of[0], proof.misprint.printed):
        caught = [p.name for p in proofs if run(p, shrink=False).failure]
    assert caught, f"none of {[p.name for p in proofs]} fails with the printed form"
    assert not any(run(p, shrink=False, examples=1).failure for p in proofs)
