"""Models from folders and the hub: what is read, checked, quantized and told apart."""
