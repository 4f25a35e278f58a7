"""A trained model of any kind with its data, as RecBole's ``load_data_and_model`` returns them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from recbole.config import Config as RecBoleConfig
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed

from recbole_llmtrsr.config.config import SavedConfig
from recbole_llmtrsr.config.renamed_options import accepted_options
from recbole_llmtrsr.data.identity import differences
from recbole_llmtrsr.data.location import changed_files, check_dataset_files
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment.run_data import load_run_data
from recbole_llmtrsr.experiment.summary_stage import make_summaries
from recbole_llmtrsr.model.language_model_recommender import reads_candidates
from recbole_llmtrsr.recommend.run_options import check_named, read_options
from recbole_llmtrsr.recommend.saved_run import checkpoint_file, load_with_loaders, other_data, read_result
from recbole_llmtrsr.registry import get_model
from recbole_llmtrsr.runtime import recbole_patches
from recbole_llmtrsr.runtime.checkpoints import load_checkpoint, trusting_checkpoints
from recbole_llmtrsr.runtime.clock import Clock
from recbole_llmtrsr.runtime.random_state import undisturbed_randomness

_MAY_DIFFER = (
    "data_path",
    "eval_args",
    "eval_batch_size",
    "exclude_seen",
    "gpu_id",
    "text_encoder",
    "trust_checkpoint",
    "use_gpu",
    "vector_dir",
)
_PARTS = {"config", "given_options", "identity", "state_dict"}


class LoadedRun(NamedTuple):
    """A trained model with its data; unpacks as what RecBole's ``load_data_and_model`` returns.

    Attributes:
        config: options of the run.
        model: in evaluation mode.
        dataset: before the split.
        train_data: loader of the training split.
        valid_data: loader of the validation split.
        test_data: loader of the test split, with the run's candidates.
    """

    config: RecBoleConfig
    model: AbstractRecommender
    dataset: Dataset
    train_data: AbstractDataLoader
    valid_data: AbstractDataLoader
    test_data: AbstractDataLoader


def load_run(
    run_folder: str | Path, *, options: Mapping[str, Any] | None = None, checkpoint: str | Path | None = None
) -> LoadedRun:
    """Load a finished run of any model: its options, data and trained model.

    The summaries of a model that reads them come from the run's store; its summarizer writes those that are missing.
    Paths that the run names are relative to where it was started.

    Args:
        run_folder: holds the run's result.json.
        options: what is elsewhere on this machine, such as ``data_path`` or ``use_gpu``; of RecBole's models also
            ``eval_args``, as in `load_data_and_model`.
        checkpoint: the run's .pth file, if it was moved.

    Returns:
        config, model (in evaluation mode), dataset, train_data, valid_data and test_data.

    Raises:
        UserError: no run, no checkpoint, or data, texts or a tokenizer other than the run's.

    Examples:
        >>> found = run_recbole_llmtrsr("SASRec", "ml-100k")  # doctest: +SKIP
        >>> config, model, dataset, train_data, valid_data, test_data = load_run(found["folder"])  # doctest: +SKIP
    """
    folder, given = Path(run_folder), accepted_options(options or {})
    moved = None if checkpoint is None else Path(checkpoint)
    result = read_result(folder)
    if reads_candidates(get_model(result["model"])):
        run, data = load_with_loaders(folder, given, moved)
        return LoadedRun(run.config, run.model, run.dataset, data.train, data.valid, data.test)
    _check_options(given)
    with trusting_checkpoints(given.get("trust_checkpoint") is True), undisturbed_randomness():
        drawn = {} if "eval_args" in given else result.get("candidates", {})
        hashes = {split: of_split["hash"] for split, of_split in drawn.items() if "hash" in of_split}
        return _loaded(checkpoint_file(folder, result, moved), given, hashes)


def load_data_and_model(model_file: str | Path, options: Mapping[str, Any] | None = None) -> LoadedRun:
    """Load a model of RecBole's that was trained here, with its data, from its checkpoint; `load_run` takes a folder.

    Checkpoints of RecBole's own runs hold a pickled Config, which can run code: they are loaded if this process wrote
    them, or with ``{"trust_checkpoint": True}``.

    Args:
        model_file: the .pth file.
        options: what differs from the run's on this machine or in the ranking, such as ``data_path``, ``use_gpu`` or
            ``eval_args: {mode: full}``, which RecBole's ``full_sort_topk`` needs; keys of ``eval_args`` are merged.

    Returns:
        config, model (in evaluation mode), dataset, train_data, valid_data and test_data, as RecBole's.

    Raises:
        UserError: no checkpoint of such a model, other data than it was trained on, or an option that may not differ.

    Examples:
        >>> config, model, *_ = load_data_and_model("saved/SASRec-seed-2020-1a2b3c4d.pth")  # doctest: +SKIP
    """
    file, given = Path(model_file), accepted_options(options or {})
    _check_options(given)
    with trusting_checkpoints(given.get("trust_checkpoint") is True), undisturbed_randomness():
        return _loaded(file, given, {})


def _check_options(given: Mapping[str, Any]) -> None:
    if others := sorted(set(given) - set(_MAY_DIFFER)):
        raise UserError(f"options {', '.join(others)} are the run's: only {', '.join(_MAY_DIFFER)} can differ")


def _loaded(file: Path, given: Mapping[str, Any], candidate_hashes: Mapping[str, str]) -> LoadedRun:
    saved = load_checkpoint(file, map_location="cpu")
    if isinstance(saved, dict) and isinstance(saved.get("config"), RecBoleConfig):  # of a run of RecBole's own
        if unread := sorted(given.keys() - {"trust_checkpoint"}):
            raise UserError(
                f"options {', '.join(unread)} have no effect: {file} was saved by a run of RecBole's own, whose options"
                " RecBole reads from it"
            )
        recbole_patches.apply()
        return LoadedRun(*import_module("recbole.quick_start").load_data_and_model(str(file)))
    if not isinstance(saved, dict) or not set(saved) >= _PARTS:
        raise UserError(f"checkpoint {file} does not hold its options and data: give one that this package has saved")
    config = _config(file, saved, given)
    check_dataset_files(config)
    data = load_run_data(config, Clock(), candidate_hashes)
    changed = differences(saved["identity"], config.identity)
    changed += changed_files(config, saved.get("data_files", config.data_files), config.data_files)
    if changed:
        raise other_data(file, config, ", ".join(changed))
    if data.has_texts:
        make_summaries(config, data.dataset, data.loaders)
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, data.train._dataset)
    model.load_state_dict(saved["state_dict"])
    model.load_other_parameter(saved.get("other_parameter"))
    return LoadedRun(config, model.to(config["device"]).eval(), data.dataset, data.train, data.valid, data.test)


def _config(file: Path, saved: Mapping[str, Any], given: Mapping[str, Any]) -> SavedConfig:
    name = saved["config"]["model"]
    model_class: Any = get_model(name)
    if reads_candidates(model_class):
        raise UserError(
            f"checkpoint {file} is of a {name}, which reads summaries and prompts: load the folder of its run with"
            " recbole_llmtrsr.load_run, or with recbole_llmtrsr.Recommender.load"
        )
    own = read_options(saved, model_class)
    check_named(file, own, given)
    merged = {**own.get("eval_args", {}), **given.get("eval_args", {})}
    options = {**own, "show_progress": False, **given, "eval_args": merged}
    return SavedConfig(model_class, saved["config"]["dataset"], None, options)
