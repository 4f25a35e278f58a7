"""One module for each source of raw data."""
