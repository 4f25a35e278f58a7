"""Language models: loading, the builtin one, LoRA and answer tokens."""
