"""Every proof holds and every misprint is refuted."""

import pytest

from ddpm.verify.registry import PROOFS, Proof, load
from ddpm.verify.runner import run

BROKEN = load()


def name(proof: Proof) -> str:
    return proof.name


def test_every_module_of_proofs_can_be_imported() -> None:
    assert BROKEN == {}


@pytest.mark.parametrize("proof", PROOFS.values(), ids=name)
def test_proof(proof: Proof) -> None:
    assert run(proof).failure == ""
