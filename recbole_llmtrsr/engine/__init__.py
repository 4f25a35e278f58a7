"""Exact and fast log-odds of yes: packed rows, shared prefixes, token budgets."""
