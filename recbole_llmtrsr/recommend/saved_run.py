"""A run folder, read back: its options, data and trained model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from recbole.data.dataset import Dataset
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed

from recbole_llmtrsr.config.candidate_modes import candidate_mode
from recbole_llmtrsr.config.config import Config, SavedConfig
from recbole_llmtrsr.config.option_kinds import options_of
from recbole_llmtrsr.config.renamed_options import current_options
from recbole_llmtrsr.data.candidates.given import given
from recbole_llmtrsr.data.candidates.split_rows import SplitRows
from recbole_llmtrsr.data.dataset import LLMTRSRDataset, load_dataset
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.identity import differences, identity
from recbole_llmtrsr.data.location import changed_files, check_dataset_files, file_digests
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment.retrieval_stage import make_reranking
from recbole_llmtrsr.experiment.run_data import RunData, load_run_data
from recbole_llmtrsr.experiment.summary_stage import make_summaries
from recbole_llmtrsr.llm.builtin import BUILTIN
from recbole_llmtrsr.model.language_model_recommender import reads_candidates
from recbole_llmtrsr.model.sequential_recommender.llmtrsr import LLMTRSR
from recbole_llmtrsr.recommend.run_options import PLACES, check_named, check_summarizer, read_options
from recbole_llmtrsr.registry import MODELS, get_dataset, get_model
from recbole_llmtrsr.retrieval.reranking import Reranking
from recbole_llmtrsr.runtime.checkpoints import load_checkpoint, trusting_checkpoints
from recbole_llmtrsr.runtime.clock import Clock
from recbole_llmtrsr.runtime.random_state import undisturbed_randomness
from recbole_llmtrsr.summarizer.writers.make_writer import FILE

_SCORING = ("predict", "rank", "log_odds")  # methods by which a test scores candidates
RESULT = "result.json"
_PARTS = {"config", "given_options", "identity", "state_dict", "tokenizer", "prompts", "backbone"}


@dataclass(frozen=True)
class SavedRun:
    """A run in the state of its test.

    Attributes:
        label: its row in a comparison.
        config: its options.
        dataset: its data before the split.
        test: the rows of its test split that were ranked.
        model: in evaluation mode, with the weights that were tested.
        reranking: how it retrieves first; None scores every item.
    """

    label: str
    config: SavedConfig
    dataset: LLMTRSRDataset
    test: Dataset
    model: LLMTRSR
    reranking: Reranking | None


@dataclass(frozen=True)
class _Splits:
    """A data set, before its split and after it."""

    dataset: LLMTRSRDataset
    train: Dataset
    valid: Dataset
    test: Dataset


def load_saved_run(folder: Path, options: Mapping[str, Any], checkpoint: Path | None) -> SavedRun:
    """Load a run for a Recommender. Nothing is un-pickled, unless ``trust_checkpoint`` says so.

    Args:
        folder: holds the run's result.json.
        options: of ``PLACES``, for what is elsewhere on this machine.
        checkpoint: the run's .pth file, if it was moved.

    Raises:
        UserError: no run, one of a model that reads no candidates, no checkpoint, or data, tokenizer or wording that
            changed since.
    """

    def read(config: SavedConfig) -> _Splits:
        init_seed(config.data_seed, config["reproducibility"])  # of a split in random order
        dataset = load_dataset(get_dataset(config.model_class), config)
        splits = _Splits(dataset, *dataset.build())
        config.describe_data(identity(dataset))
        return splits

    _check_places(options)
    result = read_result(folder, _able())
    _check_scoring(folder, result)
    run = _loaded(folder, result, options, checkpoint, read)
    run.model.requires_grad_(False)
    return run


def load_with_loaders(folder: Path, options: Mapping[str, Any], checkpoint: Path | None) -> tuple[SavedRun, RunData]:
    """`load_saved_run`, of a model that is scored in any way, with the loaders of all splits and their summaries.

    Raises:
        UserError: as `load_saved_run`; candidates other than the run's.
    """
    found: list[RunData] = []

    def read(config: SavedConfig) -> _Splits:
        drawn = result.get("candidates", {})
        data = load_run_data(config, Clock(), {split: one["hash"] for split, one in drawn.items()})
        found.append(data)
        return _Splits(data.dataset, *(loader._dataset for loader in (data.train, data.valid, data.test)))

    _check_places(options)
    result = read_result(folder)
    run = _loaded(folder, result, options, checkpoint, read)
    make_summaries(run.config, run.dataset, found[0].loaders)
    return run, found[0]


def _check_places(options: Mapping[str, Any]) -> None:
    """Refuse options that would change what scores mean."""
    if others := sorted(set(options) - set(PLACES)):
        raise UserError(
            f"options {', '.join(others)} would change what the run's scores mean: only {', '.join(PLACES)} can differ"
        )


def _loaded(
    folder: Path,
    result: Mapping[str, Any],
    options: Mapping[str, Any],
    checkpoint: Path | None,
    read: Callable[[SavedConfig], _Splits],
) -> SavedRun:
    file = checkpoint_file(folder, result, checkpoint)
    with trusting_checkpoints(options.get("trust_checkpoint") is True), undisturbed_randomness():
        return _restored(folder, result, file, options, read)


def _restored(
    folder: Path,
    result: Mapping[str, Any],
    file: Path,
    options: Mapping[str, Any],
    read: Callable[[SavedConfig], _Splits],
) -> SavedRun:
    model_class: type[LLMTRSR] = get_model(result["model"])
    saved = load_checkpoint(file, map_location="cpu")
    if not isinstance(saved, dict) or not set(saved) >= _PARTS:
        raise UserError(
            f"checkpoint {file} does not hold its options and data: train the run with this version, which saves them"
        )
    if saved["config"]["model"] != result["model"]:
        raise UserError(
            f"checkpoint {file} is of a {saved['config']['model']}, the run in {folder} of a {result['model']}: give"
            " the checkpoint that this run saved"
        )
    _check_same_run(file, folder, current_options(saved["config"]), result)
    config = _config(model_class, result, saved, file, options)
    check_dataset_files(config)
    splits = read(config)
    if changed := differences(saved["identity"], config.identity):
        raise other_data(file, config, ", ".join(changed))
    _check_events(file, result, config)
    model = model_class(config, splits.train)
    _check_prompts(file, saved, model)
    model.load_state_dict(saved["state_dict"])
    if (reranking := make_reranking(config, splits.train, len(splits.valid))) is not None:
        _check_retriever(file, result["reranking"], reranking.retriever.report())
        reranking.blend = float(result["reranking"]["blend"])
    model.rerank_with(reranking)
    model.to(config["device"]).eval()
    label = str(result.get("label", result["model"]))
    return SavedRun(label, config, splits.dataset, _tested(config, splits.test), model, reranking)


def read_result(folder: Path, models: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a run's result.json, with the options under their present names.

    Args:
        folder: of the run.
        models: whose runs an error suggests in place of a folder of several runs; none are runs of every model.

    Raises:
        UserError: the folder holds no run, or one that cannot be read.
    """
    path = folder / RESULT
    if not path.is_file():
        below = [str(found.parent) for found in sorted(folder.glob(f"**/{RESULT}")) if _is_run(found, models)][:5]
        of_models = f" of {' or '.join(models)}" if models else ""
        remedy = f"give the folder of one run{of_models}" + (f", such as {', '.join(below)}" if below else "")
        raise UserError(f"{folder} holds no {RESULT}, so it is no run: {remedy}")
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        options = current_options(result.get("options", {}))
        return {**result, "model": str(result["model"]), "dataset": str(result["dataset"]), "options": options}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}): give the folder of a run as it was left"
        ) from error


def _is_run(file: Path, models: Sequence[str]) -> bool:
    """Whether a result.json is that of a run of one of the models, or of any if none are named."""
    try:
        return not models or json.loads(file.read_text(encoding="utf-8"))["model"] in models
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _able() -> list[str]:
    """Names of the models that read a prompt for each candidate."""
    return [name for name, one in MODELS.items() if reads_candidates(one)]


def _check_scoring(folder: Path, result: Mapping[str, Any]) -> None:
    """Refuse models that a Recommender cannot score texts by."""
    model_class: type[LLMTRSR] = get_model(result["model"])
    if not reads_candidates(model_class):
        raise UserError(
            f"{folder} is a run of {result['model']}, which reads no prompts with candidates: accepted are runs of"
            f" {' and '.join(_able())}"
        )
    if any(getattr(model_class, name) is not getattr(LLMTRSR, name) for name in _SCORING):
        raise UserError(
            f"{folder} is a run of {result['model']}, which changes {' or '.join(_SCORING)}: a Recommender scores texts"
            " as LLMTRSR does, so its scores would be others than the test's"
        )


def checkpoint_file(folder: Path, result: Mapping[str, Any], given: Path | None) -> Path:
    """The file of the weights that a run was tested with, or the one given in its place.

    Raises:
        UserError: the run saved none, or it is elsewhere.
    """
    if "scorer" in result:
        raise UserError(
            f"the run in {folder} was ranked by {result['options']['scorer']}, a model behind a server, so it has no"
            " model to load: run it again with --explain=<user> to see a user's ranking, or train a backbone"
        )
    if given is None and not result.get("checkpoint"):
        why = "ended with its summaries" if "test_result" not in result else "did not save one (saved=False)"
        raise UserError(f"the run in {folder} {why}, so it has no checkpoint: train it with saved=True")
    file = Path(given or result["checkpoint"])
    if not file.is_file():
        raise UserError(
            f"checkpoint {file} of the run in {folder} does not exist: start in the folder where the run was started,"
            " or name the file as checkpoint"
        )
    return file


def _config(
    model_class: type[AbstractRecommender],
    result: Mapping[str, Any],
    saved: Mapping[str, Any],
    file: Path,
    places: Mapping[str, Any],
) -> SavedConfig:
    own = read_options(saved, model_class)
    if saved["config"].get("trust_remote_code") and "trust_remote_code" not in places:
        raise UserError(
            f"the run of {file} let transformers run code that came with its model: if you trust it, say so again with"
            " options={'trust_remote_code': True}"
        )
    check_summarizer(file, own, places)
    check_named(file, own, places)
    options = {**own, "show_progress": False, **places}
    if "summarizer_api_key_variable" not in places:
        del options["summarizer_api_key_variable"]
    if options["backbone"] == BUILTIN:
        options["builtin_tokenizer"] = str(file.with_suffix("") / "tokenizer.json")
    return SavedConfig(model_class, result["dataset"], None, options, str(result.get("label", result["model"])))


def _check_same_run(file: Path, folder: Path, saved: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Refuse the checkpoint of another run of the same model."""
    of_result = result["options"]
    compared = sorted(set(of_result) - set(options_of("free")))
    other = [name for name in compared if of_result[name] != saved.get(name)]
    if other:
        named = ", ".join(f"{name}: {saved.get(name)}, not {of_result[name]}" for name in other[:3])
        raise UserError(
            f"checkpoint {file} is of another run than {folder} ({named}): give the checkpoint that this run saved"
        )


def _tested(config: Config, test: Dataset) -> Dataset:
    """The rows of the test that were ranked: of an impression the first click alone."""
    mode = candidate_mode(config["eval_args"]["mode"]["test"])
    if mode is None or mode.kind != "impressions":
        return test
    _, ranked, _ = given(config, SplitRows.of(test), mode)
    return test.copy(test.inter_feat[np.flatnonzero(np.isin(test.inter_feat[HISTORY_ID].numpy(), ranked.history_ids))])


def _check_events(file: Path, result: Mapping[str, Any], config: Config) -> None:
    """Refuse other events of training, of which histories are made, and other summaries of a file."""
    if "data_files" not in result:
        getLogger().warning(f"the run of {file} does not name the files of its events, so they are not compared")
        return
    then, now = result["data_files"], file_digests(config)
    changed = changed_files(config, then, now)
    if changed:
        raise other_data(file, config, f"events of training ({', '.join(changed)} has changed)")
    writer = config.settings.summary
    of_run = str(result["options"]["summarizer"])
    if writer.summary == "none" or not writer.summarizer.startswith(FILE):
        return
    found = now.get(writer.summarizer.removeprefix(FILE))  # a missing file is reported where it is read
    if found is not None and then.get(of_run.removeprefix(FILE)) != found:
        raise UserError(
            f"summarizer '{writer.summarizer}' holds other summaries than when {file} was trained on them: give the"
            " earlier file, or train again"
        )


def other_data(file: Path, config: Config, what: str) -> UserError:
    """The error for data other than those that a checkpoint was trained on."""
    return UserError(
        f"data set '{config['dataset']}' in {config['data_path']} has other {what} than when {file} was trained on it:"
        " point data_path to the earlier files, or train again"
    )


def _check_retriever(file: Path, of_run: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a retriever that finds other items."""
    for name in ("retriever", "retriever_digest"):  # runs of earlier versions lack the latter
        if name in of_run and of_run[name] != now.get(name):
            raise UserError(
                f"the run of {file} re-ranked what a {of_run['retriever']} retrieves, and the retriever given is"
                f" {'a ' + str(now['retriever']) if name == 'retriever' else 'one of other weights'}: give the one of"
                f" then ({of_run.get('retriever_checkpoint')}), wherever it is now"
            )


def _check_prompts(file: Path, saved: Mapping[str, Any], model: AbstractRecommender) -> None:
    if saved["backbone"] != model.backbone.digest:
        raise UserError(
            f"backbone '{model.settings.backbone.backbone}' holds other weights than {file} was trained with: give"
            " those"
        )
    if saved["tokenizer"] != model.backbone.tokenizer_digest():
        raise UserError(
            f"checkpoint {file} was trained with another tokenizer than that of backbone '{model.backbone.name}': give"
            " the backbone that it was trained with"
        )
    if saved["prompts"] != model.prompts.digest():
        raise UserError(
            f"prompts are other ones than those that {file} was trained on: texts of the .item file, or the wording of"
            " this version, have changed since; point data_path to the earlier files, or train again"
        )
