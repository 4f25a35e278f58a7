"""The options, data, software and hardware of the rows of a comparison: differences first, then what they share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeGuard

from recbole_llmtrsr.config.option_kinds import options_of
from recbole_llmtrsr.config.options import (
    BackboneSettings,
    ItemModelSettings,
    PromptSettings,
    RetrievalSettings,
    SummarySettings,
    TrainingSettings,
)
from recbole_llmtrsr.evaluation.comparison.cells import MISSING, figure
from recbole_llmtrsr.evaluation.comparison.comparison import Row

# The runs of RecBole's models list these options too, at their defaults; the models read none of them.
_OF_LANGUAGE_MODELS = {
    option.name
    for group in (
        SummarySettings,
        PromptSettings,
        BackboneSettings,
        TrainingSettings,
        ItemModelSettings,
        RetrievalSettings,
    )
    for option in fields(group)
}


@dataclass(frozen=True)
class Facts:
    """Named values of the rows.

    Attributes:
        differing: (name, value of each row), where at least two rows report one and the values differ.
        partial: (name, value, labels), where some rows report none and the others agree.
        common: (name, value), the same in all rows.
        silent: labels of rows that report none of the facts; the other fields leave them out.
    """

    differing: tuple[tuple[str, tuple[str, ...]], ...]
    partial: tuple[tuple[str, str, str], ...]
    common: tuple[tuple[str, str], ...]
    silent: tuple[str, ...]


def facts(rows: Sequence[Row], of_result: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Facts:
    """Compare the rows by ``of_result``, which maps the content of a result.json to facts by name.

    Where the seeds of a row differ, its value lists the values of all seeds.
    """
    found = [[of_result(result) for result in row.results] for row in rows]
    silent = tuple(row.label for row, seeds in zip(rows, found) if not any(seeds))
    differing, partial, common = [], [], []
    for name in dict.fromkeys(name for seeds in found for of_seed in seeds for name in of_seed):
        values = [_distinct(of_seed[name] for of_seed in seeds if name in of_seed) for seeds in found]
        having = [row.label for row, value in zip(rows, values) if value]
        known = {value for value in values if value}
        if len(known) > 1:
            differing.append((name, tuple(value or MISSING for value in values)))
        elif len(having) < len(rows) - len(silent):
            partial.append((name, known.pop(), ", ".join(having)))
        else:
            common.append((name, known.pop()))
    return Facts(tuple(differing), tuple(partial), tuple(common), silent)


def look_up(result: Mapping[str, Any], *path: str) -> Any:
    """A nested value of a result.json; None where it is missing, as in results of other programs."""
    found: Any = result
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value can be drawn: a result.json may hold null, and an estimate nan."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def options(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of a run, without those that its type of model does not read."""
    named = look_up(result, "options") or {}
    unread = set() if look_up(result, "summaries") is not None else set(_OF_LANGUAGE_MODELS)
    if named.get("MODEL_TYPE") == "ModelType.TRADITIONAL":
        unread |= set(options_of("gradients"))
    return {name: value for name, value in named.items() if name not in unread}


def software(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Versions, the commit and the patches of RecBole."""
    named = {"git_commit": look_up(result, "git_commit"), "host_patches": look_up(result, "host_patches")}
    return {**(look_up(result, "versions") or {}), **{name: value for name, value in named.items() if value}}


def hardware(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The device, and how it was measured."""
    peak = look_up(result, "cost", "measured_peak_flops_per_second")
    named = {
        "device": look_up(result, "cost", "device"),
        "number format": look_up(result, "cost", "number_format"),
        "measured peak": None if peak is None else f"{figure(peak / 1e9, ',.0f')} GFLOP/s",
        "peak memory is that of": look_up(result, "cost", "peak_memory_of"),
    }
    return {name: value for name, value in named.items() if value is not None}


def data(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Sizes of the data set and the candidate sets."""
    counts = {"training rows": "n_train", "validation rows": "n_valid", "test rows": "n_test", "items": "n_items"}
    named = {name: f"{result[key]:,}" for name, key in counts.items() if look_up(result, key) is not None}
    for split, drawn in (look_up(result, "candidates") or {}).items():
        named |= {f"{split} candidates, {name.replace('_', ' ')}": value for name, value in drawn.items()}
    return named


def _distinct(values: Iterable[Any]) -> str:
    """Values as text, each once; empty for none."""
    return " · ".join(
        dict.fromkeys(v if isinstance(v, str) and v else json.dumps(v, ensure_ascii=False) for v in values)
    )
