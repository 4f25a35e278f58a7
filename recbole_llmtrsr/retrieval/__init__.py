"""Retrieve, then re-rank: a cheap model ranks the whole catalogue, an expensive one re-ranks its top k."""
