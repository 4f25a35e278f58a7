"""Exact and fast computation of scores, the log-odds of yes: packed rows, shared prefixes, token budgets."""
