"""Attention over shared-prefix rows: one interface for transformers and several back-ends."""
