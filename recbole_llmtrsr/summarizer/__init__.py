"""Preference summaries: how a history becomes a short text.

``paradigms`` states how the paper makes one summary of a history's blocks (``hierarchical``, ``recurrent``).
``planning`` runs it with numbers of calls in place of texts, which lists the distinct writer calls of all histories.
``execute`` runs the calls that the ``store`` does not have, wave by wave, and a writer (``extractive``, ``llm_writer``)
turns items and earlier texts into text. ``python -m recbole_llmtrsr.summarizer`` inspects a store.
"""
