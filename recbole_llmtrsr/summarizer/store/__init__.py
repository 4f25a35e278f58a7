"""The store of all texts that writers have written."""
