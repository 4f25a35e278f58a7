"""Explains the ranking of one user: ``explain`` collects the facts, ``page`` and ``text`` show them."""

from recbole_llmtrsr.explain.explain import candidate_scores, explain, history_of
from recbole_llmtrsr.explain.explanation import Explanation
from recbole_llmtrsr.explain.page import page, page_name, write_page
from recbole_llmtrsr.explain.text import brief, text

__all__ = [
    "Explanation",
    "brief",
    "candidate_scores",
    "explain",
    "history_of",
    "page",
    "page_name",
    "text",
    "write_page",
]
