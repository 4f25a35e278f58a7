"""Writers of summaries: extracts without a model, and language models."""
