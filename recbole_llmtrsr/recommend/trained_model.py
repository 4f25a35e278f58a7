"""A trained model of any kind with its data, as RecBole's ``load_data_and_model`` returns them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole.utils import init_seed

from recbole_llmtrsr.config.config import SavedConfig
from recbole_llmtrsr.config.renamed_options import accepted_options
from recbole_llmtrsr.data.identity import differences
from recbole_llmtrsr.data.location import changed_files, check_dataset_files
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.experiment.run_data import load_run_data
from recbole_llmtrsr.recommend.run_options import check_named, read_options
from recbole_llmtrsr.recommend.saved_run import other_data
from recbole_llmtrsr.registry import MODELS, get_model
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


def load_data_and_model(
    model_file: str | Path, options: Mapping[str, Any] | None = None
) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Load a model of RecBole's that was trained here, with its data.

    RecBole's function of this name un-pickles the whole Config, which checkpoints written here do not hold.

    Args:
        model_file: the .pth file.
        options: what differs from the run's on this machine or in the ranking, such as ``data_path``, ``use_gpu`` or
            ``eval_args: {mode: full}``, which RecBole's ``full_sort_topk`` needs; keys of ``eval_args`` are merged.

    Returns:
        config, model (in evaluation mode), dataset, train_data, valid_data and test_data, as RecBole's.

    Raises:
        UserError: no checkpoint of such a model, other data than it was trained on, or an option that may not differ.
    """
    file, given = Path(model_file), accepted_options(options or {})
    if others := sorted(set(given) - set(_MAY_DIFFER)):
        raise UserError(f"options {', '.join(others)} are the run's: only {', '.join(_MAY_DIFFER)} can differ")
    with trusting_checkpoints(given.get("trust_checkpoint") is True), undisturbed_randomness():
        return _loaded(file, given)


def _loaded(file: Path, given: Mapping[str, Any]) -> tuple[Any, Any, Any, Any, Any, Any]:
    saved = load_checkpoint(file, map_location="cpu")
    if not isinstance(saved, dict) or not set(saved) >= _PARTS:
        raise UserError(f"checkpoint {file} does not tell its options and data: give one that a run here has saved")
    config = _config(file, saved, given)
    check_dataset_files(config)
    data = load_run_data(config, Clock(), {})
    changed = differences(saved["identity"], config.identity)
    changed += changed_files(config, saved.get("data_files", config.data_files), config.data_files)
    if changed:
        raise other_data(file, config, ", ".join(changed))
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, data.train._dataset)
    model.load_state_dict(saved["state_dict"])
    model.load_other_parameter(saved.get("other_parameter"))
    return config, model.to(config["device"]).eval(), data.dataset, data.train, data.valid, data.test


def _config(file: Path, saved: Mapping[str, Any], given: Mapping[str, Any]) -> SavedConfig:
    name = saved["config"]["model"]
    model_class: Any = get_model(name)
    if name in MODELS and hasattr(model_class, "check_config"):
        raise UserError(
            f"checkpoint {file} is of a {name}, which holds a language model: load runs of LLMTRSR and TALLRec with"
            " recbole_llmtrsr.Recommender; accepted here are RecBole's models"
        )
    own = read_options(saved, model_class)
    check_named(file, own, given)
    merged = {**own.get("eval_args", {}), **given.get("eval_args", {})}
    return SavedConfig(
        model_class, saved["config"]["dataset"], None, {**own, "show_progress": False, **given, "eval_args": merged}
    )
