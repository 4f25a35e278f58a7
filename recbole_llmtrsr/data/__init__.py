"""Data: preparation of atomic files, histories, item texts, candidate sets and data loaders."""
