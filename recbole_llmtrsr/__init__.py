"""LLM-TRSR for RecBole: text-rich sequential recommendation with large language models."""

__version__ = "0.1.0"
