"""Processes, files, checkpoints, devices, and patches that let RecBole run on current versions of its dependencies."""
