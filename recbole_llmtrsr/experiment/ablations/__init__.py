"""The test again with changed prompts: ``changes`` makes them, ``run`` evaluates them."""

from recbole_llmtrsr.experiment.ablations.changes import ABLATIONS
from recbole_llmtrsr.experiment.ablations.run import AblationRows, Ablations, run_ablations

__all__ = ["ABLATIONS", "AblationRows", "Ablations", "run_ablations"]
