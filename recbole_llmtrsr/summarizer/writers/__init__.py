"""Who writes: extracts without a model, or a language model."""
