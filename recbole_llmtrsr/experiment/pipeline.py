"""The pipeline: options, data, split and candidates, summaries, model, training, evaluation, result."""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import Trainer
from recbole.utils import init_logger, init_seed
from transformers.utils import logging as transformers_logging

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.sources import Command
from recbole_llmtrsr.data.location import check_dataset_files
from recbole_llmtrsr.engine.served_scorer import ServedScorer
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison.runs import Run
from recbole_llmtrsr.evaluation.cost import StageCosts, cost_line
from recbole_llmtrsr.evaluation.result import git_commit, versions, write_json
from recbole_llmtrsr.experiment.evaluation_stage import FinalTest, write_tables
from recbole_llmtrsr.experiment.first_screen import data_screen, model_screen, summary_screen
from recbole_llmtrsr.experiment.fit import fit, make_trainer
from recbole_llmtrsr.experiment.retrieval_stage import finish_reranking, make_reranking, retrieve_negatives
from recbole_llmtrsr.experiment.run_data import RunData, load_run_data
from recbole_llmtrsr.experiment.summary_stage import make_summaries, save_summaries, store_path, summary_cost
from recbole_llmtrsr.explain import brief, candidate_scores, explain, history_of, page_name, text, write_page
from recbole_llmtrsr.llm.loading.quantized import n_weights
from recbole_llmtrsr.llm.make_backbone import check_backbone
from recbole_llmtrsr.llm.number_format import weights_dtype
from recbole_llmtrsr.model.assembly import check_prompts
from recbole_llmtrsr.model.language_model_recommender import is_served, reads_candidates
from recbole_llmtrsr.prompt.templates import templates_for
from recbole_llmtrsr.registry import get_model
from recbole_llmtrsr.runtime import processes, recbole_patches
from recbole_llmtrsr.runtime.checkpoints import trust_checkpoints
from recbole_llmtrsr.runtime.clock import Clock
from recbole_llmtrsr.runtime.device import warn_of_other_programs
from recbole_llmtrsr.runtime.screen import Bar, on_screen, show, width
from recbole_llmtrsr.summarizer.run_record import RunRecord
from recbole_llmtrsr.summarizer.store.scores import stored_scores
from recbole_llmtrsr.summarizer.summarize import SummaryResult
from recbole_llmtrsr.summarizer.writers.make_writer import check_summarizer

_VARIANT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,59}")
SUMMARIES = "summaries.jsonl"  # in the result folder, with summarize_only


def checked_config(
    label: str,
    dataset: str,
    files: Sequence[str],
    options: Mapping[str, Any],
    command: Command | None = None,
) -> Config:
    """The options of a model, named 'Model' or 'Model@variant', with every check that needs no work.

    Raises:
        UserError: a fault in the user's input.
    """
    name, at, variant = label.partition("@")
    if at and not _VARIANT.fullmatch(variant):
        raise UserError(
            f"the variant '{variant[:80]}' of {name[:80]} names a folder: write letters, digits, _, - and dots, such as"
            f" {name[:80]}@recurrent"
        )
    model_class: Any = get_model(name)
    config = Config(model_class, dataset, files, options, label, command)
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


def run_pipeline(
    config: Config,
    saved: bool,
    folder: Path,
    candidate_hashes: Mapping[str, str] | None = None,
    record: RunRecord | None = None,
) -> Run:
    """Train and evaluate one model with one seed.

    Args:
        config: from ``checked_config``.
        saved: keep the best checkpoint and test with it.
        folder: for result.json and the tables.
        candidate_hashes: by split, of the candidate sets of the models to compare with.
        record: of the command's summaries.

    Returns:
        the content of result.json, and the tables of ranked histories if the run was tested.

    Raises:
        UserError: a fault in the user's input.
    """
    trust_checkpoints(config.settings.evaluation.trust_checkpoint)
    clock, stage, explained = Clock(), config.settings.summary, config.settings.evaluation.explain
    served = is_served(config)
    saved = saved and not served  # there are no weights
    with _logging(config) as logger, _wandb_run(config), ExitStack() as opened:
        logger.info(config)
        if config["device"].type == "cpu":
            warn_of_other_programs()
        data = load_run_data(config, clock, candidate_hashes or {})
        show(data_screen(config, data))
        has_prompts = reads_candidates(config.model_class)
        if explained is not None and (stage.dry_run or not has_prompts):
            logger.info(f"explain: {explained} has no effect on {config.label}, which makes no prompts here")
        if config.settings.backbone.scorer is not None and not has_prompts:
            logger.warning(f"scorer has no effect on {config.label}, which makes no prompts with candidates")
        if has_prompts:
            check_prompts(config.settings, data.dataset)  # before an LLM writes for hours
        elif data.has_texts:
            check_backbone(config.settings, config["device"])
        if stage.dry_run:
            dry = {"summary_cost": summary_cost(config, data.dataset, data.loaders)} if data.has_texts else {}
            return _stopped(config, folder, dry)
        reranking = None
        if not stage.summarize_only:
            reranking = make_reranking(config, data.train._dataset, len(data.valid._dataset))
        summaries = _summarized(config, data, clock, record)
        if stage.summarize_only:
            if data.has_texts:
                save_summaries(folder / SUMMARIES, data.dataset, data.loaders, summaries)
                if has_prompts and explained is not None:
                    _explain(logger, folder, explained, data.test, summaries, None)
            return _stopped(config, folder, {"summaries": dict(summaries.report), "seconds": clock.seconds})
        if reranking is not None:
            with clock("retrieved negatives"):
                retrieve_negatives(config, data.train, reranking)
        init_seed(config["seed"], config["reproducibility"])
        computes = has_prompts and not served
        counted = weights_dtype(config.settings.backbone, config["device"]) if computes else None
        costs = StageCosts(config["device"], counted)
        with clock("model"):
            trainer = make_trainer(config, data, costs, reranking)
        if served:
            _keep_scores(config, trainer.model.served, opened)
        show(model_screen(config, trainer.model))
        fitted, summaries = fit(config, trainer, data, summaries, costs, saved, folder, clock)
        reranked = {}
        if reranking is not None:
            with clock("reranking"):
                reranked = finish_reranking(reranking, trainer, {"valid": data.valid, "test": data.test}, saved)
        with clock("evaluation"), costs("evaluation"):
            test_result = trainer.evaluate(data.test, load_best_model=saved, show_progress=config["show_progress"])
        final_test = FinalTest(config, trainer)
        ranked = final_test.table(data.test) if test_result else None
        if not test_result:
            logger.warning(f"nothing was tested: the split {config['eval_args']['split']} leaves no test target")
        result = {
            **_names(config),
            **fitted,
            "test_result": test_result if test_result is None else {k: float(v) for k, v in test_result.items()},
            **data.report(),
            "seconds": clock.seconds,
            "cost": costs.report({"validation": len(data.valid._dataset), "evaluation": len(data.test._dataset)}),
            **_model_report(trainer.model, data, summaries),
            **reranked,
            "checkpoint": trainer.saved_model_file if saved else None,
            "processes": processes.count(),
            "host_patches": list(recbole_patches.apply()),
            "versions": versions(),
            "git_commit": git_commit(),
            "command": config.command.text,
            "options": config.effective_options(),
        }
        write_json(folder / "result.json", result)  # before what may fail or take long
        write_tables(folder, ranked, {})
        further = {mode: final_test.among(loader, mode, result, folder) for mode, loader in data.also.items()}
        ablations: dict[str, pd.DataFrame] = {}
        if config.settings.evaluation.ablations and ranked is not None:
            ablations, result["ablations"] = final_test.ablated(data.test)
            write_tables(folder, ranked, ablations)
            write_json(folder / "result.json", result)
        for loss in trainer.model.prompts.cut_prompts() if has_prompts else ():
            logger.warning(loss)
        logger.info(f"cost: {cost_line(result['cost'])}")
        logger.info(f"test result: {json.dumps(result['test_result'])}")
        logger.info(f"result: {folder / 'result.json'}")
        if explained is not None and has_prompts:
            _explain(logger, folder, explained, data.test, summaries, trainer)
    return Run(config.label, config["seed"], result, ranked, ablations, further)


def _summarized(config: Config, data: RunData, clock: Clock, record: RunRecord | None) -> SummaryResult:
    """Write the summaries of all histories, which the data set then holds; models without texts have none."""
    if not data.has_texts:
        return SummaryResult({}, {})
    explained = config.settings.evaluation.explain
    traced = [] if explained is None else [history_of(explained, data.test._dataset)]
    with clock("summaries"):
        summaries = make_summaries(config, data.dataset, data.loaders, traced, record)
    logging.getLogger().info(f"summaries: {json.dumps(summaries.report)}")
    if summaries.report:
        show(summary_screen(summaries.report))
    return summaries


def _keep_scores(config: Config, scorer: ServedScorer, opened: ExitStack) -> None:
    """Let a scorer find and keep scores in the store, and log that nothing is trained."""
    path = store_path(config.settings.summary.summary_store)
    scorer.store = opened.enter_context(stored_scores(path, scorer.name, scorer.settings))
    without = "checkpoint" if config.settings.retrieval.blend is None else "validation and no checkpoint"
    logging.getLogger().info(
        f"scorer {config.settings.backbone.scorer} ranks zero-shot: backbone, tune and all options of training have no"
        f" effect, and there is no {without}"
    )


def _explain(
    logger: logging.Logger,
    folder: Path,
    user: str,
    test_data: AbstractDataLoader,
    summaries: SummaryResult,
    trainer: Trainer | None,
) -> None:
    """Write and log the explanation of a user's ranking; without a trainer, up to the summary."""
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
    logger.info(text(explanation))
    show(f"\n{brief(explanation, width())}\n  page: {path}")


def _names(config: Config) -> dict[str, Any]:
    return {"label": config.label, "model": config.model, "seed": config["seed"], "dataset": config.dataset}


def _stopped(config: Config, folder: Path, found: Mapping[str, Any]) -> Run:
    """The result of a run that ends before training, written unless it was a dry run."""
    result = {**_names(config), **found}
    if config.settings.summary.summarize_only and not config.settings.summary.dry_run:
        write_json(folder / "result.json", {**result, "versions": versions(), "options": config.effective_options()})
    return Run(config.label, config["seed"], result, None, {})


def _model_report(model: AbstractRecommender, data: RunData, summaries: SummaryResult) -> dict[str, Any]:
    total = sum(n_weights(p) for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    report: dict[str, Any] = {"weights": {"total": total, "trainable": trainable}}
    if data.has_texts:
        report |= {
            "summaries": {**summaries.report, "digest": summaries.digest[:12]},
            "items_without_text": len(data.dataset.items_without_text),
            "ragged_item_lines": len(data.dataset.item_text.ragged_lines),
            "repeated_item_lines": len(data.dataset.item_text.repeated_lines),
        }
    if reads_candidates(model):
        report |= {"tokens": model.meter.tokens, "trims": dict(model.prompts.trims)}
    if (served := getattr(model, "served", None)) is not None:
        report["scorer"] = served.report()
    elif reads_candidates(model):
        budgets = model.budgets.items()
        report |= {
            "attention": model.backbone.attention,
            "attention_refused": model.attention_refused,
            "max_tokens_per_batch": {name: min(processes.all_gather(budget.max_tokens)) for name, budget in budgets},
            "out_of_memory": {name: sum(processes.all_gather(budget.halved)) for name, budget in budgets},
        }
    return report


@contextmanager
def _wandb_run(config: Config) -> Iterator[None]:
    """A run of Weights & Biases for this model and seed, with ``log_wandb``.

    RecBole starts one where there is none and never ends it, so that all models of a process would share it. If the
    caller started one, everything is logged into it, and it goes on.
    """
    if not config["log_wandb"] or (wandb := importlib.import_module("wandb")).run is not None:
        yield
        return
    wandb.init(
        project=config["wandb_project"], name=f"{config.label}-seed-{config['seed']}", config=config.effective_options()
    )
    try:
        yield
    finally:
        wandb.finish()


@contextmanager
def _logging(config: Config) -> Iterator[logging.Logger]:
    """RecBole's log file of this run, in the main process, and the screen; both are removed afterwards.

    RecBole's layer for colours around the output is not kept: every run would add one, until Python's recursion ends.
    """
    logger = logging.getLogger()
    if not processes.is_main():
        yield logger
        return
    level, output = logger.level, (sys.stdout, sys.stderr)
    added: list[logging.Handler] = []
    with on_screen() as screen, _without_bars_of_transformers():
        shown = list(logger.handlers)
        try:
            logger.handlers = []  # else logging.basicConfig, which RecBole calls, would add none
            init_logger(config)
            sys.stdout, sys.stderr = output
            added = [one for one in logger.handlers if isinstance(one, logging.FileHandler)]
            logger.handlers = [*shown, *added]
            screen.verbose = config.settings.evaluation.verbose
            with mock.patch("recbole.trainer.trainer.tqdm", Bar):
                yield logger
        finally:
            sys.stdout, sys.stderr = output
            screen.verbose = False
            logger.handlers = shown
            logger.setLevel(level)
            for handler in added:
                handler.close()


@contextmanager
def _without_bars_of_transformers() -> Iterator[None]:
    """Loading and saving weights has a bar of its own for every file."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()
