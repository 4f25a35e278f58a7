"""A trained run behind HTTP: ``python -m recbole_llmtrsr.serve --run=<folder>``; needs the extra ``serving``."""
