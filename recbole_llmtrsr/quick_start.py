"""One pipeline, and the thin public functions around it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from recbole.utils import init_logger, init_seed, set_color

from recbole_llmtrsr import compat
from recbole_llmtrsr.config import Config, option_from_sources
from recbole_llmtrsr.data.dataset import LLMTRSRDataset, load_dataset
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders import make_loaders
from recbole_llmtrsr.data.location import check_dataset_files
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.result import git_commit, make_result_dir, versions, write_comparison, write_json
from recbole_llmtrsr.model.assembly import weights_dtype
from recbole_llmtrsr.model.full_sort import check_full_sort_cost
from recbole_llmtrsr.prompt.templates import templates_for
from recbole_llmtrsr.registry import get_dataset, get_model, get_trainer
from recbole_llmtrsr.summarizer import make_writer
from recbole_llmtrsr.summarizer.summarize import summarize


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
        RecBole's ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and ``test_result``.

    Raises:
        UserError: a fault in the user's input.
    """
    name = _required("model", model, config_file_list, config_dict)
    result = _run(name, dataset, config_file_list or (), config_dict or {}, saved, None)
    return {key: result[key] for key in ("best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")}


def compare(
    models: Sequence[str],
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
) -> tuple[list[dict[str, Any]], Path]:
    """Train and evaluate several models in turn, on one split and one candidate set.

    Returns:
        the content of every model's result.json, and the folder that holds them and the comparison.

    Raises:
        UserError: a fault in the user's input; models that ended before it keep their results.
    """
    if not models:
        raise UserError("no model is named: pass --model=<name>, or several as --model=LLMTRSR,SASRec")
    dataset_name = _required("dataset", dataset, config_file_list, config_dict)
    files, options = config_file_list or (), config_dict or {}
    # Every name and every model's options are checked before the first model trains.
    configs = [_checked_config(name, dataset_name, files, options) for name in models]
    folder = make_result_dir(configs[0].settings.evaluation.result_dir, models, dataset_name)
    results = []
    for name in models:
        own_folder = folder / name if len(models) > 1 else folder
        own_folder.mkdir(exist_ok=True)
        results.append(_run(name, dataset_name, files, options, saved, own_folder))
        if len(models) > 1:
            write_comparison(folder, results)
    hashes = {result["candidates"]["test"]["hash"] for result in results if "test" in result["candidates"]}
    if len(hashes) > 1:
        raise UserError(f"the models met different candidates ({', '.join(sorted(hashes))}): their rows do not compare")
    return results, folder


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


def _checked_config(model: str, dataset: str, files: Sequence[str], options: Mapping[str, Any]) -> Config:
    """A model's options, once all is refused that can be before any work is done."""
    config = Config(get_model(model), dataset, files, options)
    check_dataset_files(config)
    templates_for(config.settings.prompt.domain, config.settings.prompt.prompt_templates)
    return config


def _run(
    model_name: str,
    dataset_name: str | None,
    files: Sequence[str],
    options: Mapping[str, Any],
    saved: bool,
    folder: Path | None,
) -> dict[str, Any]:
    """The pipeline: options, data, split and candidates, summaries, model, training, evaluation, result."""
    model_class = get_model(model_name)
    dataset_name = _required("dataset", dataset_name, files, options)
    config = _checked_config(model_name, dataset_name, files, options)
    compat.trust_checkpoints(config.settings.evaluation.trust_checkpoint)
    folder = folder or make_result_dir(config.settings.evaluation.result_dir, [model_name], dataset_name)
    clock = _Clock()
    with _logging(config) as logger:
        logger.info(config)
        init_seed(config["seed"], config["reproducibility"])
        with clock("data"):
            dataset = load_dataset(get_dataset(model_class), config)
            logger.info(dataset)
            (train_data, valid_data, test_data), candidates = make_loaders(config, dataset)
        check_full_sort_cost(config, model_class, {"valid": valid_data, "test": test_data})
        summaries: dict[str, Any] = {}
        if isinstance(dataset, LLMTRSRDataset):
            with clock("summaries"):
                summaries = write_summaries(config, dataset, [train_data, valid_data, test_data])
        init_seed(config["seed"], config["reproducibility"])
        with clock("model"):
            model = model_class(config, train_data._dataset).to(config["device"])
            logger.info(model)
            trainer = get_trainer(model_class)(config, model)
            if config.settings.evaluation.checkpoint is not None:
                trainer.resume_checkpoint(_existing(config.settings.evaluation.checkpoint))
        with clock("training"):
            best_valid_score, best_valid_result = trainer.fit(
                train_data, valid_data, saved=saved, show_progress=config["show_progress"]
            )
        with clock("evaluation"):
            test_result = trainer.evaluate(test_data, load_best_model=saved, show_progress=config["show_progress"])
        result = {
            "model": model_name,
            "dataset": dataset_name,
            "best_valid_score": float(best_valid_score),
            "valid_score_bigger": config["valid_metric_bigger"],
            "best_valid_result": _floats(best_valid_result),
            "test_result": _floats(test_result),
            "epochs_trained": len(trainer.train_loss_dict),
            "train_loss": {str(epoch): loss for epoch, loss in trainer.train_loss_dict.items()},
            "n_train": len(train_data._dataset),
            "n_valid": len(valid_data._dataset),
            "n_test": len(test_data._dataset),
            "n_items": dataset.item_num - 1,
            "candidates": {
                split: {
                    "hash": drawn.digest,
                    "n_histories": len(drawn.items),
                    "n_per_history": drawn.items.shape[1] + 1,
                }
                for split, drawn in candidates.items()
            },
            "seconds": clock.seconds,
            "weights": {
                "total": sum(p.numel() for p in model.parameters()),
                "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
            },
            **_language_model_report(model, dataset, summaries),
            "checkpoint": trainer.saved_model_file if saved else None,
            "host_patches": list(compat.apply()),
            "versions": versions(),
            "git_commit": git_commit(),
            "options": config.effective_options(),
        }
        write_json(folder / "result.json", result)
        logger.info(set_color("test result", "yellow") + f": {test_result}")
        logger.info(f"result: {folder / 'result.json'}")
    return result


def write_summaries(config: Any, dataset: LLMTRSRDataset, loaders: Sequence[Any]) -> dict[str, Any]:
    """Write the preference summary of every history that a loader will ask for, and hand them to the data set.

    Returns:
        what it cost, for the run's report.
    """
    settings = config.settings
    ids = sorted({int(i) for loader in loaders for i in loader._dataset.inter_feat[HISTORY_ID]})
    writer = make_writer(
        settings.summary,
        dataset.item_text,
        templates_for(settings.prompt.domain, settings.prompt.prompt_templates),
        device=config["device"],
        dtype=weights_dtype(settings.backbone.precision, config["device"]),
        trust_remote_code=settings.backbone.trust_remote_code,
    )
    made = summarize(
        {i: dataset.history_tokens(i) for i in ids},
        dataset.item_text,
        writer,
        settings.summary,
        show_progress=bool(config["show_progress"]),
    )
    dataset.set_summaries(made.summaries)
    return {"histories": len(ids), "calls": made.calls, "calls_by_kind": dict(made.distinct), **dict(made.report)}


def _language_model_report(model: Any, dataset: Any, summaries: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(dataset, LLMTRSRDataset):
        return {}
    return {
        "summaries": dict(summaries),
        "tokens": dict(model.tokens),
        "trims": dict(model.prompts.trims),
        "attention": model.backbone.attention,
        "items_without_text": len(dataset.items_without_text),
        "ragged_item_lines": len(dataset.item_text.ragged_lines),
    }


def _existing(checkpoint: str) -> Path:
    if not Path(checkpoint).is_file():
        raise UserError(f"checkpoint {checkpoint} does not exist: give the .pth file that a run saved")
    return Path(checkpoint)


def _floats(metrics: Mapping[str, Any] | None) -> dict[str, float] | None:
    return None if metrics is None else {name: float(value) for name, value in metrics.items()}


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[stage] = round(time.perf_counter() - start, 3)


@contextmanager
def _logging(config: Any) -> Iterator[logging.Logger]:
    """RecBole's log of this run; its handlers leave with the run, so that the next model logs to its own file."""
    logger = logging.getLogger()
    before = list(logger.handlers)
    init_logger(config)
    try:
        yield logger
    finally:
        for handler in [h for h in logger.handlers if h not in before]:
            logger.removeHandler(handler)
            handler.close()
