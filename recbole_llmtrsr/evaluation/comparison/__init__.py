"""Runs compared on the rows that they share: estimates, intervals, tests and tables."""
