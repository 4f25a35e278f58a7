"""Wording and assembly of prompts."""
