"""The console command ``recbole-llmtrsr``: its table of sub-commands, and those that belong to no other package."""
