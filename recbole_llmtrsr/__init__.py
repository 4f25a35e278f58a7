"""LLM-TRSR for RecBole: text-rich sequential recommendation with large language models."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["Recommender", "__version__"]


def __getattr__(name: str) -> Any:
    """``Recommender``, imported when it is asked for: torch and transformers take seconds."""
    if name == "Recommender":
        return import_module("recbole_llmtrsr.recommend").Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
