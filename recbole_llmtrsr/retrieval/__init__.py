"""Retrieve, then re-rank: a cheap model orders the whole catalogue, a dear one the top of it."""
