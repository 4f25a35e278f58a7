"""The training loop, and states from which it resumes."""
