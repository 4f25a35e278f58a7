"""Loading models from folders and the hub: checks, quantization, adapters and fingerprints."""
