"""LLM-TRSR for RecBole: text-rich sequential recommendation with large language models.

Every public name is imported when it is first used, since torch and transformers take seconds.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_llmtrsr.data.frames import Dataset
    from recbole_llmtrsr.errors import UserError
    from recbole_llmtrsr.quick_start import compare, objective_function, run_recbole_llmtrsr
    from recbole_llmtrsr.recommend import Recommender, load_data_and_model, load_run
    from recbole_llmtrsr.registry import register_model
    from recbole_llmtrsr.summarizer.writers.make_writer import register_writer

__version__ = "0.1.0"
__all__ = [
    "Dataset",
    "Recommender",
    "UserError",
    "__version__",
    "compare",
    "load_data_and_model",
    "load_run",
    "objective_function",
    "register_model",
    "register_writer",
    "run_recbole_llmtrsr",
]

_MODULES = {
    "Dataset": "data.frames",
    "Recommender": "recommend",
    "UserError": "errors",
    "compare": "quick_start",
    "load_data_and_model": "recommend",
    "load_run": "recommend",
    "objective_function": "quick_start",
    "register_model": "registry",
    "register_writer": "summarizer.writers.make_writer",
    "run_recbole_llmtrsr": "quick_start",
}

# bitsandbytes, which peft imports, warns on every import that an optional kernel for 4-bit weights is not installed.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(lambda record: "gemm_4bit_forward" not in record.msg)


def __getattr__(name: str) -> Any:
    """A public name, imported with its module."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
