"""Tokenization: chat templates, external texts, thoughts."""
