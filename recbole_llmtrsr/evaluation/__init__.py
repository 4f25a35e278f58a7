"""Metrics under ties, tables by history, comparisons of runs, cost."""
