"""Attention over shared-prefix rows: one interface to transformers, several ways to compute it."""
