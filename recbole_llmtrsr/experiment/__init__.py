"""One run, stage by stage, from options to its result folder."""
