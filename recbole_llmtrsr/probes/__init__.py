"""The test again with changed prompts: ``changes`` makes them, ``run`` evaluates them."""

from recbole_llmtrsr.probes.changes import PROBES
from recbole_llmtrsr.probes.run import ProbeRows, Probes, run_probes

__all__ = ["PROBES", "ProbeRows", "Probes", "run_probes"]
