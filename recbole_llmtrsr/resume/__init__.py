"""A run that was stopped at any moment goes on, and ends as if it had not been."""
