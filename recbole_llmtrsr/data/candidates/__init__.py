"""Candidate sets: made once, saved, hashed, and met by every model in every epoch.

RecBole redraws the negatives at each evaluation from NumPy's global state, so two models, or two epochs, are compared
on different candidates. Here a set is drawn (``draws``) from nothing but data, split, mode and seed, or read from a
file (``given``). ``python -m recbole_llmtrsr.data.candidates`` looks into a saved set and carries it to other programs.
"""
