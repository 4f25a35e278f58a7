"""Preference summaries: how a history becomes a short text.

``planning`` lists the distinct writer calls that a paradigm (``hierarchical``, ``recurrent``) needs for all histories,
``execute`` runs those that the ``store`` does not have, wave by wave, and a writer (``extractive``, ``llm_writer``)
turns items and earlier texts into text. ``python -m recbole_llmtrsr.summarizer`` looks into a store.
"""
