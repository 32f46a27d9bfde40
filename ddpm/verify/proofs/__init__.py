"""Proofs by subject: each compares functions of the reference with a truth found another way."""
