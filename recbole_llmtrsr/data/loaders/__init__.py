"""Data loaders for training, for evaluation on candidates, and for full ranking."""
