"""Planning of the distinct calls that the summaries of all histories need."""
