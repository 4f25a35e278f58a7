"""The language models: loading, the embedded one, LoRA and answer tokens."""
