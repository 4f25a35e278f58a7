"""The training of a run: its trainer, the state it starts or resumes from, and its results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from logging import getLogger
from pathlib import Path
from typing import Any

from accelerate.utils.memory import should_reduce_batch_size
from recbole.trainer import Trainer
from recbole.utils import EvaluatorType

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.recbole_faults import setting_up
from recbole_llmtrsr.data.identity import differences
from recbole_llmtrsr.data.location import changed_files
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.cost import StageCosts
from recbole_llmtrsr.evaluation.once_per_history import scoring_once_per_history
from recbole_llmtrsr.experiment.run_data import RunData
from recbole_llmtrsr.model.item_vectors import initialise_items, item_vectors
from recbole_llmtrsr.model.language_model_recommender import LanguageModelRecommender, is_served
from recbole_llmtrsr.registry import get_trainer
from recbole_llmtrsr.retrieval.reranking import Reranking
from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.runtime.atomic_write import atomic_write
from recbole_llmtrsr.runtime.checkpoints import load_checkpoint
from recbole_llmtrsr.runtime.clock import Clock
from recbole_llmtrsr.summarizer.summarize import SummaryResult
from recbole_llmtrsr.training.resumable import Part, ResumableTraining
from recbole_llmtrsr.training.run_trainer import run_trainer
from recbole_llmtrsr.training.state_folder import StateFolder

STATES = "training-states"  # below the run's folder, removed once it has finished


def make_trainer(config: Config, data: RunData, costs: StageCosts, reranking: Reranking | None) -> Trainer:
    """The trainer with its model, which ranks ties by expectation and is metered.

    Raises:
        UserError: the model does not fit into memory, or cannot be made of these options and data.
    """
    model_class = config.model_class
    if config["eval_type"] == EvaluatorType.RANKING and not issubclass(model_class, LanguageModelRecommender):
        model_class = scoring_once_per_history(model_class)
    try:
        with setting_up(config, "the model"):
            model = model_class(config, data.train._dataset).to(config["device"])
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        of_backbone = "choose a smaller backbone, or set load_in: 4bit or precision: bf16"
        remedy = of_backbone if data.has_texts else "lower the sizes of its layers and embeddings"
        raise UserError(f"{config.label} does not fit into the memory of {config['device']}: {remedy}") from error
    if reranking is not None:
        model.rerank_with(reranking)
    texts = config.settings.text
    if texts.text_init is not None and not data.has_texts:
        initialise_items(model, item_vectors(config, data.train._dataset, "text_init"), texts.text_init_frozen)
    getLogger().info(model)
    with setting_up(config, "the trainer"):
        trainer = run_trainer(get_trainer(config.model_class))(config, model, costs)
    costs.watch(getattr(model, "meter", None))
    return trainer


def fit(
    config: Config,
    trainer: Trainer,
    data: RunData,
    summaries: SummaryResult,
    costs: StageCosts,
    saved: bool,
    folder: Path,
    clock: Clock,
) -> tuple[dict[str, Any], SummaryResult]:
    """Train from scratch, from `checkpoint`, or from the last state of a stopped run; a served model is not trained.

    Args:
        config: our Config.
        trainer: from `make_trainer`, which ``costs`` watch.
        data: of the run.
        summaries: that the model reads.
        costs: saved and restored with the states of the training.
        saved: keep the best checkpoint.
        folder: of the run, which holds the states.
        clock: of the run.

    Returns:
        the training's part of result.json, and the summaries with the report of the run that was begun.

    Raises:
        UserError: the stopped run had other data or candidates, or its checkpoint is gone; or `checkpoint` is of a
            model of ids that mean other users or items here.
    """
    options = config.settings.resume
    parts: dict[str, Part] = {"costs": costs, **getattr(trainer.model, "resumable_parts", dict)()}
    if (once := getattr(trainer.model, "once_per_history", None)) is not None:
        parts["predict"] = once
    states = StateFolder(folder / STATES, options.keep_states)
    training = ResumableTraining(trainer, data.train, states, options.checkpoint_minutes, parts)
    is_restored = training.restore(saved)
    facts = {
        "data": dict(config.identity),
        "candidates": {split: drawn.digest for split, drawn in data.candidates.items()},
        "summaries": summaries.digest,
        "number format": getattr(getattr(trainer, "accelerator", None), "mixed_precision", "no"),
        "report": dict(summaries.report),
    }
    processes.check_alike({name: fact for name, fact in facts.items() if name != "report"})
    if training.facts:
        changed = [name for name in ("data", "candidates", "summaries") if training.facts[name] != facts[name]]
        if changed:
            raise UserError(
                f"the {' and '.join(changed)} changed since the run in {folder} started, so it cannot resume: start a"
                " new run without resume, in another result_dir"
            )
        then, now = (str(one.get("number format", "no")).replace("no", "fp32") for one in (training.facts, facts))
        if then != now:  # on another processor, or in doubt
            getLogger().warning(
                f"precision: auto began this run in {then} and continues it in {now}, which is faster here; its results"
                " differ by rounding from those of a run that was not stopped"
            )
        summaries = replace(summaries, report=training.facts["report"])
    else:
        training.begin(**facts)
    if config.settings.evaluation.checkpoint is not None and not is_restored:
        _check_data_of(config.settings.evaluation.checkpoint, config, data)
        _begin_from(trainer, config.settings.evaluation.checkpoint)
    with clock("training"):
        if training.is_fitted or is_served(config):
            trainer.eval_collector.data_collect(data.train)  # as `fit` does first
        else:
            with _host_faults(config):
                trainer.fit(
                    data.train,
                    data.valid,
                    saved=saved,
                    show_progress=config["show_progress"],
                    callback_fn=training.validated,
                )
            training.fitted(saved)
    clock.seconds["training"] = round(training.seconds, 3)
    trainer.eval_collector.forget()
    processes.barrier()  # until rank 0 has written the checkpoint
    best_result = trainer.best_valid_result
    return {
        "best_valid_score": None if is_served(config) else float(trainer.best_valid_score),
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": None if best_result is None else {k: float(v) for k, v in best_result.items()},
        "epochs_trained": len(trainer.train_loss_dict),
        "validations": training.validations,
        "train_loss": {str(epoch): float(loss) for epoch, loss in trainer.train_loss_dict.items()},
    }, summaries


@contextmanager
def _host_faults(config: Config) -> Iterator[None]:
    """Turn the errors of RecBole's training that a user can mend into `UserError`s."""
    try:
        yield
    except ImportError as error:  # of models with trainers of their own, such as NCL
        raise UserError(f"{config.label} needs a package that is missing ({error}): install it") from error
    except ValueError as error:
        if "loss is nan" not in str(error):  # RecBole's words
            raise
        raise UserError(
            f"the training loss of {config.label} became NaN: lower learning_rate ({config['learning_rate']}), or bound"
            " the gradients with clip_grad_norm: {max_norm: 1.0}"
        ) from error


def remove_states(folder: Path) -> None:
    """Remove the states of a run that has finished."""
    StateFolder(folder / STATES, 1).remove()


def _check_data_of(checkpoint: str, config: Config, data: RunData) -> None:
    """Refuse weights of other ids, and warn of other data; models that read texts may start from another data set."""
    saved = load_checkpoint(checkpoint, map_location="cpu")
    if "identity" not in saved:
        getLogger().warning(f"checkpoint {checkpoint} does not record its training data, so they were not checked")
        return
    changed = differences(saved["identity"], config.identity)
    if not data.has_texts and {"users", "items"} & set(changed):
        raise UserError(
            f"checkpoint {checkpoint} was trained with other {' and '.join(changed)} (other files, filters or"
            " catalogue), so its ids do not match: use the data and the options of the run that saved it"
        )
    then = saved.get("data_files", config.data_files)  # checkpoints of earlier versions lack them
    changed += [f"file {name}" for name in changed_files(config, then, config.data_files)]
    if changed:
        getLogger().warning(
            f"checkpoint {checkpoint} was trained on other data ({', '.join(changed)}): it may have seen targets of"
            " this test, and its best_valid_score was measured on other rows"
        )


def _begin_from(trainer: Trainer, checkpoint: str) -> None:
    """RecBole's resume, with new checkpoints in a file of this run, as RecBole would overwrite the one it reads."""
    own_file = trainer.saved_model_file
    trainer.resume_checkpoint(checkpoint)
    trainer.saved_model_file = own_file
    if not processes.is_main():
        return
    with atomic_write(Path(own_file)) as copy, open(checkpoint, "rb") as original:
        shutil.copyfileobj(original, copy)
