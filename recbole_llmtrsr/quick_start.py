"""The thin public functions around the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from recbole_llmtrsr.config import option_from_sources
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.result import make_result_dir, write_comparison
from recbole_llmtrsr.pipeline import checked_config, run_pipeline


def run_recbole_llmtrsr(
    model: str | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
) -> dict[str, Any]:
    """Train and evaluate one model, ours or RecBole's.

    Args:
        model: model name; None takes it from the dictionary or the files.
        dataset: dataset name; likewise.
        config_file_list: property files.
        config_dict: options by name.
        saved: keep the best checkpoint and test with it.

    Returns:
        RecBole's ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and ``test_result``; None each
        with ``summarize_only`` or ``dry_run``.

    Raises:
        UserError: a fault in the user's input.
    """
    name = _required("model", model, config_file_list, config_dict)
    (result,), _ = compare([name], dataset, config_file_list, config_dict, saved)
    return {
        key: result.get(key) for key in ("best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")
    }


def compare(
    models: Sequence[str],
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
) -> tuple[list[dict[str, Any]], Path]:
    """Train and evaluate several models in turn, on one split and one candidate set.

    Returns:
        the content of every model's result.json, and the folder that holds them and the comparison. With ``dry_run``
        the results hold the ``summary_cost`` in words, and there is no folder.

    Raises:
        UserError: a fault in the user's input; models that ended before it keep their results.
    """
    if not models:
        raise UserError("no model is named: pass --model=<name>, or several as --model=LLMTRSR,SASRec")
    dataset_name = _required("dataset", dataset, config_file_list, config_dict)
    files, options = config_file_list or (), config_dict or {}
    if len(set(models)) < len(models):
        raise UserError(f"a model is named twice in {', '.join(models)}: name each once")
    # Every name and every model's options are checked before the first model trains.
    configs = [checked_config(name, dataset_name, files, options) for name in models]
    checkpoints = [config.settings.evaluation.checkpoint for config in configs]
    if any(c is not None and checkpoints.count(c) > 1 for c in checkpoints):
        raise UserError("checkpoint belongs to one model: write --<model>.checkpoint=<file>")
    folder = make_result_dir(configs[0].settings.evaluation.result_dir, models, dataset_name)
    results: list[dict[str, Any]] = []
    hashes: dict[str, str] = {}
    for config in configs:
        own_folder = folder / config.model if len(models) > 1 else folder
        own_folder.mkdir(parents=True, exist_ok=True)
        try:
            results.append(run_pipeline(config, saved, own_folder, hashes))
        finally:
            with suppress(OSError):  # nothing was written: leave no empty folder behind
                folder.rmdir()
        finished = [result for result in results if is_finished(result)]
        if finished:
            hashes = {split: drawn["hash"] for split, drawn in finished[0]["candidates"].items()}
        if len(models) > 1 and finished:
            write_comparison(folder, finished)
    return results, folder


def is_finished(result: Mapping[str, Any]) -> bool:
    """Whether a run went to its end, and did not stop with its summaries."""
    return "test_result" in result


def objective_function(
    config_dict: Mapping[str, Any] | None = None,
    config_file_list: Sequence[str] | None = None,
    saved: bool = True,
) -> dict[str, Any]:
    """What RecBole's HyperTuning calls for each point of its search."""
    name = _required("model", None, config_file_list, config_dict)
    return {"model": name, **run_recbole_llmtrsr(name, None, config_file_list, config_dict, saved)}


def _required(name: str, value: str | None, files: Sequence[str] | None, options: Mapping[str, Any] | None) -> str:
    value = value or option_from_sources(name, files or (), options or {})
    if not value:
        raise UserError(f"no {name} is named: pass --{name}=<name>, or set it in a property file or the dictionary")
    return str(value)
