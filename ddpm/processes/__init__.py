"""Families of models as trainer, samplers and evaluation see them."""
