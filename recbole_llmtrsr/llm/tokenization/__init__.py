"""Tokenization: chat templates, external texts, and the thoughts of reasoning models."""
