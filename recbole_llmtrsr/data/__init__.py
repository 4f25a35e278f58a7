"""Data: converters, item texts and the dataset."""
