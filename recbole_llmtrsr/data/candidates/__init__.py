"""Candidate sets: sampled once, saved, hashed, and ranked by every model in every evaluation.

RecBole samples the negatives again at each evaluation from NumPy's global state, so that two models, or two epochs, are
compared on different candidates. Here a set depends only on data, split, mode and seed (``draws``), or comes from a
file (``given``). ``python -m recbole_llmtrsr.data.candidates`` shows, exports and imports saved sets.
"""
