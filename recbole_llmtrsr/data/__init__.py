"""From raw data to histories, item texts, batches and candidates."""
