"""The pipeline: options, data, split and candidates, summaries, model, training, evaluation, result."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from recbole.utils import init_logger, init_seed, set_color

from recbole_llmtrsr import compat
from recbole_llmtrsr.checkpoints import trust_checkpoints
from recbole_llmtrsr.config import Config
from recbole_llmtrsr.data.dataset import LLMTRSRDataset, load_dataset
from recbole_llmtrsr.data.loaders import make_loaders
from recbole_llmtrsr.data.location import check_dataset_files
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.collector import ExpectedEvaluator, RankingCollector
from recbole_llmtrsr.evaluation.cost import StageCosts, cost_line
from recbole_llmtrsr.evaluation.result import git_commit, versions, write_json
from recbole_llmtrsr.evaluation.runs import Run
from recbole_llmtrsr.explain import candidate_scores, explain, history_of, page_name, text, write_page
from recbole_llmtrsr.final_test import FinalTest, write_tables
from recbole_llmtrsr.llm.quantized import n_weights
from recbole_llmtrsr.model.assembly import check_prompts, weights_dtype
from recbole_llmtrsr.model.full_sort import check_full_sort_cost
from recbole_llmtrsr.prompt.templates import templates_for
from recbole_llmtrsr.registry import get_dataset, get_model, get_trainer
from recbole_llmtrsr.summaries import make_summaries, save_summaries, summary_cost
from recbole_llmtrsr.summarizer.summarize import SummaryResult
from recbole_llmtrsr.summarizer.writers.make_writer import check_summarizer

SUMMARIES = "summaries.jsonl"  # in the result folder, with summarize_only


def checked_config(label: str, dataset: str, files: Sequence[str], options: Mapping[str, Any]) -> Config:
    """A model's options, once all is refused that can be before any work is done.

    Args:
        label: the model's name, or 'Model@variant', to which options speak as to a model.
        dataset: its name.
        files: property files.
        options: by name.
    """
    model_class: Any = get_model(label.partition("@")[0])
    config = Config(model_class, dataset, files, options, label)
    if hasattr(model_class, "check_config"):
        model_class.check_config(config)
    check_dataset_files(config)
    templates_for(config.settings.prompt.domain, config.settings.prompt.prompt_templates)
    if config.settings.summary.summary != "none":
        check_summarizer(config.settings.summary)
    checkpoint = config.settings.evaluation.checkpoint
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise UserError(f"checkpoint {checkpoint} does not exist: give the .pth file that a run saved")
    return config


def run_pipeline(config: Config, saved: bool, folder: Path, candidate_hashes: Mapping[str, str] | None = None) -> Run:
    """Train and evaluate one model with one seed.

    Args:
        config: from ``checked_config``.
        saved: keep the best checkpoint and test with it.
        folder: where result.json goes; removed again if the run ends before it and left it empty.
        candidate_hashes: candidate sets, by split, of the models to compare with.

    Returns:
        the content of result.json, and the tables of ranked histories, if it went so far.

    Raises:
        UserError: a fault in the user's input.
    """
    try:
        return _run(config, saved, folder, candidate_hashes or {})
    finally:
        with suppress(OSError):
            folder.rmdir()


def _run(config: Config, saved: bool, folder: Path, candidate_hashes: Mapping[str, str]) -> Run:
    model_class = config.model_class
    trust_checkpoints(config.settings.evaluation.trust_checkpoint)
    clock = _Clock()
    with _logging(config) as logger:
        logger.info(config)
        init_seed(config.data_seed, config["reproducibility"])  # of a split in random order
        with clock("data"):
            dataset = load_dataset(get_dataset(model_class), config)
            logger.info(dataset)
            (train_data, valid_data, test_data), candidates, also = make_loaders(config, dataset)
        _check_same_candidates(candidates, candidate_hashes)
        check_full_sort_cost(config, model_class, {"valid": valid_data, "test": test_data})
        loaders = [train_data, valid_data, test_data, *also.values()]
        summaries, stage = SummaryResult({}, {}), config.settings.summary
        explained = config.settings.evaluation.explain
        if explained is not None and (stage.dry_run or not isinstance(dataset, LLMTRSRDataset)):
            logger.warning(
                f"explain: {explained} is left undone: only runs of LLMTRSR that are not dry can be explained"
            )
        if isinstance(dataset, LLMTRSRDataset):
            # Before an LLM writes for hours.
            check_prompts(config.settings, dataset)
            traced = [] if explained is None else [history_of(explained, test_data._dataset)]
            if stage.dry_run:
                return _stopped(config, folder, {"summary_cost": summary_cost(config, dataset, loaders)})
            with clock("summaries"):
                summaries = make_summaries(config, dataset, loaders, traced)
            logger.info(f"summaries: {summaries.report}")
            if stage.summarize_only:
                save_summaries(folder / SUMMARIES, dataset, loaders, summaries)
                if explained is not None:
                    _explain(logger, folder, explained, test_data, summaries, None)
        if stage.dry_run or stage.summarize_only:
            return _stopped(config, folder, {"summaries": dict(summaries.report), "seconds": clock.seconds})
        init_seed(config["seed"], config["reproducibility"])
        costs = StageCosts(config["device"], _counted_format(config, dataset))
        with clock("model"):
            model = model_class(config, train_data._dataset).to(config["device"])
            logger.info(model)
            trainer = get_trainer(model_class)(config, model)
            # RecBole names the file by model and second, which seeds, variants and runs side by side share.
            own_name = f"{config.label}-seed-{config['seed']}-{uuid.uuid4().hex[:8]}.pth"
            trainer.saved_model_file = str(Path(trainer.saved_model_file).with_name(own_name))
            trainer.eval_collector = RankingCollector(config, getattr(model, "score_resolution", None))
            trainer.evaluator = ExpectedEvaluator(config)
            costs.watch(trainer, getattr(model, "meter", None))
            if config.settings.evaluation.checkpoint is not None:
                _resume(trainer, config.settings.evaluation.checkpoint)
        validations: list[dict[str, float]] = []
        start = time.perf_counter()

        def validated(epoch: int, score: float) -> None:
            seconds = round(time.perf_counter() - start, 3)
            validations.append({"epoch": epoch + 1, "seconds": seconds, "score": float(score)})

        with clock("training"):
            best_valid_score, best_valid_result = trainer.fit(
                train_data, valid_data, saved=saved, show_progress=config["show_progress"], callback_fn=validated
            )
        trainer.eval_collector.forget()
        with clock("evaluation"), costs("evaluation"):
            test_result = trainer.evaluate(test_data, load_best_model=saved, show_progress=config["show_progress"])
        cost = costs.report({"validation": len(valid_data._dataset), "evaluation": len(test_data._dataset)})
        final_test = FinalTest(config, trainer)
        ranked = final_test.table(test_data) if test_result else None
        if not test_result:
            logger.warning(f"nothing was tested: the split {config['eval_args']['split']} leaves no test target")
        result = {
            "label": config.label,
            "model": config.model,
            "seed": config["seed"],
            "dataset": config.dataset,
            "best_valid_score": float(best_valid_score),
            "valid_score_bigger": config["valid_metric_bigger"],
            "best_valid_result": _floats(best_valid_result),
            "test_result": _floats(test_result),
            "epochs_trained": len(trainer.train_loss_dict),
            "validations": validations,
            "train_loss": {str(epoch): loss for epoch, loss in trainer.train_loss_dict.items()},
            "n_train": len(train_data._dataset),
            "n_valid": len(valid_data._dataset),
            "n_test": len(test_data._dataset),
            "n_items": dataset.item_num - 1,
            "candidates": {split: drawn.report() for split, drawn in candidates.items()},
            "seconds": clock.seconds,
            "cost": cost,
            "weights": {
                "total": sum(n_weights(p) for p in model.parameters()),
                "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
            },
            **_language_model_report(model, dataset, summaries.report),
            "checkpoint": trainer.saved_model_file if saved else None,
            "host_patches": list(compat.apply()),
            "versions": versions(),
            "git_commit": git_commit(),
            "command": shlex.join(["python", *sys.argv]),
            "options": config.effective_options(),
        }
        write_json(folder / "result.json", result)  # before what may fail or take long
        write_tables(folder, ranked, {})
        further = {mode: final_test.among(loader, mode, result, folder) for mode, loader in also.items()}
        probes: dict[str, pd.DataFrame] = {}
        if config.settings.evaluation.probe and ranked is not None:
            probes, result["probes"] = final_test.probed(test_data)
            write_tables(folder, ranked, probes)
            write_json(folder / "result.json", result)
        logger.info(set_color("cost", "yellow") + f": {cost_line(cost)}")
        logger.info(set_color("test result", "yellow") + f": {test_result}")
        logger.info(f"result: {folder / 'result.json'}")
        if explained is not None and isinstance(dataset, LLMTRSRDataset):
            _explain(logger, folder, explained, test_data, summaries, trainer)
    return Run(config.label, config["seed"], result, ranked, probes, further)


def _explain(
    logger: logging.Logger, folder: Path, user: str, test_data: Any, summaries: SummaryResult, trainer: Any
) -> None:
    """Write and log how a user's ranking came about; without a trainer, as far as the summary."""
    dataset = test_data._dataset
    has_summaries = dataset.config.settings.summary.summary != "none"
    explanation = explain(
        user,
        dataset,
        summaries if has_summaries else None,
        None if trainer is None else trainer.model.prompts,
        None if trainer is None else candidate_scores(trainer, test_data, user),
        no_scores="summarize_only: no model was trained" if trainer is None else "",
    )
    path = folder / page_name(user)
    write_page(path, explanation)
    logger.info(f"explanation of user {user}: {path}\n{text(explanation)}")


def _stopped(config: Config, folder: Path, found: Mapping[str, Any]) -> Run:
    """The result of a run that ends with its summaries, written unless it made none."""
    result = {"label": config.label, "model": config.model, "dataset": config.dataset, **found}
    if config.settings.summary.summarize_only and not config.settings.summary.dry_run:
        write_json(folder / "result.json", {**result, "versions": versions(), "options": config.effective_options()})
    return Run(config.label, config["seed"], result, None, {})


def _counted_format(config: Config, dataset: Any) -> torch.dtype | None:
    """Number format of the matrix products of a model that counts them."""
    if not isinstance(dataset, LLMTRSRDataset):
        return None
    return weights_dtype(config.settings.backbone.precision, config["device"])


def _language_model_report(model: Any, dataset: Any, summaries: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(dataset, LLMTRSRDataset):
        return {}
    return {
        "summaries": dict(summaries),
        "tokens": model.meter.tokens,
        "trims": dict(model.prompts.trims),
        "attention": model.backbone.attention,
        "attention_refused": model.attention_refused,
        "max_tokens_per_batch": {name: budget.max_tokens for name, budget in model.budgets.items()},
        "out_of_memory": {name: budget.halved for name, budget in model.budgets.items()},
        "items_without_text": len(dataset.items_without_text),
        "ragged_item_lines": len(dataset.item_text.ragged_lines),
    }


def _resume(trainer: Any, checkpoint: str) -> None:
    """RecBole's resume; new checkpoints go to a file of this run, where RecBole would overwrite the one resumed."""
    own_file = trainer.saved_model_file
    trainer.resume_checkpoint(checkpoint)
    trainer.saved_model_file = own_file
    shutil.copyfile(checkpoint, own_file)


def _check_same_candidates(candidates: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    for split, digest in expected.items():
        found = candidates[split].digest if split in candidates else "none"
        if found != digest:
            raise UserError(
                f"this model would meet other {split} candidates ({found[:12]}) than the one before it"
                f" ({digest[:12]}): give all models of a comparison the same eval_args, seed, filters and columns"
            )


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
