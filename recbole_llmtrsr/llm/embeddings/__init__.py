"""Texts as vectors, and the files that keep them."""
