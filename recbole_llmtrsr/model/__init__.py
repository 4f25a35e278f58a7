"""Candidates of a history scored together: rows, attention, log-odds, and the models that train on them."""
