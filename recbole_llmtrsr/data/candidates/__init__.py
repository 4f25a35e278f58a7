"""Candidate sets: made once, saved, hashed, and shown to every model in every epoch.

RecBole redraws the negatives at each evaluation from NumPy's global state, so two models, or two epochs, are compared
on different candidates. Here a set depends on data, split, mode and seed alone (``draws``), or comes from a file
(``given``). ``python -m recbole_llmtrsr.data.candidates`` shows, exports and imports saved sets.
"""
