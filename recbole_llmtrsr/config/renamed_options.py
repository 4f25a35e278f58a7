"""Options that had other names in the previous version; both names are read, the earlier one with a warning."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any

from recbole_llmtrsr.errors import UserError

_OPPOSITE = {"auto": "auto", "yes": "no", "no": "yes", True: "no", False: "yes"}
RENAMED = {
    "keep_checkpoints": "keep_states",
    "probe": "ablations",
    "rank_history": "exclude_seen",  # its opposite
    "retrieved_negatives": "hard_negative_ratio",
}


def current_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an earlier run under their current names.

    >>> current_options({"epochs": 2, "rank_history": "yes", "SASRec.keep_checkpoints": 3})
    {'epochs': 2, 'exclude_seen': 'no', 'SASRec.keep_states': 3}
    """
    return dict(_renamed(name, value) for name, value in options.items())


def accepted_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a user gave them, under their current names; earlier names cause a warning.

    Raises:
        UserError: an option is given under both names, or one whose meaning is now reversed has an unknown value.
    """
    current = current_options(options)
    for name, value in options.items():
        new, accepted = _renamed(name, value)
        if new == name:
            continue
        if _is_turned(name) and not (isinstance(value, str | bool) and value in _OPPOSITE):
            raise UserError(
                f"{name} must be auto, yes or no, got {value!r}; it is now called {new}, which reverses yes and no"
            )
        if new in options:
            raise UserError(f"{name} is the earlier name of {new}, and both are given: keep {new}")
        getLogger().warning(
            f"{name} is now called {new}: write {new}: {accepted}; the next version refuses the old name"
        )
    return current


def _renamed(name: str, value: Any) -> tuple[str, Any]:
    prefix, dot, bare = name.rpartition(".")
    turned = _OPPOSITE.get(value, value) if _is_turned(name) and isinstance(value, str | bool) else value
    return f"{prefix}{dot}{RENAMED.get(bare, bare)}", turned


def _is_turned(name: str) -> bool:
    return name.rpartition(".")[2] == "rank_history"
