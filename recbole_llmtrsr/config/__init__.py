"""Options of a run: their declaration, defaults and checks."""
