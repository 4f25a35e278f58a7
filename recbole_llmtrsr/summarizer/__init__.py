"""Preference summaries, short texts that describe a history.

``paradigms`` defines how the blocks of a history become one summary (``hierarchical``, ``recurrent``). ``planning``
runs a paradigm with call numbers in place of texts, which lists the distinct writer calls of all histories. ``execute``
runs the calls that are missing in the ``store``, wave by wave, and a writer (``extractive``, ``llm_writer``) writes a
text from items and earlier texts. ``python -m recbole_llmtrsr.summarizer`` inspects a store.
"""
