"""From histories to a graph of distinct calls."""
