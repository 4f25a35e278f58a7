"""Language models: loading, the built-in model, LoRA, answer tokens, text generation and embeddings."""
