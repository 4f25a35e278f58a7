"""Batches: of training, of evaluation, and of the whole catalogue."""
