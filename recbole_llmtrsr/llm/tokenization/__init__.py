"""Texts as token ids: chat templates, texts from outside, thoughts."""
