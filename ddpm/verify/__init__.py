"""The ledger of the papers' formulas and the proofs that hold each of them."""
