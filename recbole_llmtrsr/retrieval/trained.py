"""A trained model of RecBole's as a retriever, from its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from recbole.utils import ModelType
from torch import Tensor

from recbole_llmtrsr.checkpoints import load_checkpoint
from recbole_llmtrsr.config import Config
from recbole_llmtrsr.data.id_maps import id_maps
from recbole_llmtrsr.errors import UserError

_SPLIT = ("split", "order", "group_by")


class TrainedRetriever:
    """Scores the catalogue with a model that was trained before, and leaves it as it is.

    Args:
        model: of RecBole's, with its weights.
        path: of its checkpoint; None for a model that is not trained.
    """

    def __init__(self, model: Any, path: Path | None) -> None:
        self._model, self._path = model.eval().requires_grad_(False), path

    @torch.no_grad()
    def scores(self, interaction: Any) -> Tensor:
        """What the model's full ranking gives, in its own precision. [batch_size, n_items]"""
        device = self._model.device
        with torch.autocast(device.type, enabled=False):
            return self._model.full_sort_predict(interaction.to(device)).view(len(interaction), -1)  # type: ignore[no-any-return]

    def report(self) -> dict[str, Any]:
        """What it is, for result.json."""
        checkpoint = None if self._path is None else str(self._path)
        return {"retriever": type(self._model).__name__, "retriever_checkpoint": checkpoint}


def trained_retriever(
    path: Path, config: Any, dataset: Any, get_model: Callable[[str], Any], get_dataset: Callable[[Any], Any]
) -> TrainedRetriever:
    """Load a checkpoint that a run of RecBole's model saved here.

    Args:
        path: the .pth file.
        config: of the run that re-ranks.
        dataset: its data, with the rows of training.
        get_model: class by name.
        get_dataset: data set class of a model class.

    Raises:
        UserError: no such checkpoint, one that does not tell what it was trained on, one of another data set, other
            ids or another split (whose training rows may be targets here), or of a model that ranks no catalogue.
    """
    checkpoint = load_checkpoint(path, map_location=config["device"])
    if not {"given_options", "id_maps", "config", "state_dict"} <= set(checkpoint):
        raise UserError(
            f"retriever {path} does not tell what it was trained on: train it with run_recbole_llmtrsr of this version,"
            " which saves that"
        )
    _check_same_data(path, checkpoint, config, dataset)
    own = checkpoint["config"]
    places = {name: config[name] for name in ("use_gpu", "gpu_id")}
    options = {**checkpoint["given_options"], **places, "data_path": str(Path(config["data_path"]).parent)}
    model_class = get_model(own["model"])
    if hasattr(model_class, "check_config"):
        raise UserError(f"retriever {path} is a {own['model']}, which reads prompts: take one of RecBole's models")
    saved = _SavedConfig(model_class, own["dataset"], None, options)
    if model_class.type != ModelType.SEQUENTIAL:  # such as graphs, which are made of all training rows
        dataset = get_dataset(model_class)(saved).build()[0]
    model = model_class(saved, dataset).to(config["device"])
    model.load_state_dict(checkpoint["state_dict"])
    model.load_other_parameter(checkpoint.get("other_parameter"))
    return TrainedRetriever(model, path)


class _SavedConfig(Config):
    """Options of a run that was: flags speak to the present one."""

    @staticmethod
    def _flags() -> dict[str, Any]:
        return {}


def _check_same_data(path: Path, checkpoint: Mapping[str, Any], config: Any, dataset: Any) -> None:
    faults = []
    theirs, remedy = checkpoint["config"], "train the retriever with the data and the options of this run"
    if theirs["dataset"] != config["dataset"]:
        faults.append(
            f"retriever {path} was trained on dataset '{theirs['dataset']}', not '{config['dataset']}': {remedy}"
        )
    elif differing := [name for name, digest in id_maps(dataset).items() if checkpoint["id_maps"].get(name) != digest]:
        faults.append(
            f"retriever {path} knows other {' and '.join(differing)} than this run (other files, filters or catalogue),"
            f" so its ids mean others: {remedy}"
        )
    split = {name: (theirs["eval_args"].get(name), config["eval_args"].get(name)) for name in _SPLIT}
    if "US" in config["eval_args"]["split"] or config["eval_args"]["order"] == "RO":  # users or events by chance
        seeds = (theirs["data_seed"], theirs["seed"])
        split["data_seed"] = (next(seed for seed in seeds if seed is not None), config.data_seed)
    faults += [
        f"retriever {path} was trained under another split, eval_args {name}: {before}, not {now}, so it may have seen"
        f" targets of this test: {remedy}"
        for name, (before, now) in split.items()
        if before != now
    ]
    windows = theirs["MAX_ITEM_LIST_LENGTH"], config["MAX_ITEM_LIST_LENGTH"]
    if windows[0] != windows[1]:
        faults.append(
            f"retriever {path} reads the last {windows[0]} events, but rows hold {windows[1]}: set"
            f" MAX_ITEM_LIST_LENGTH: {windows[0]}"
        )
    if faults:
        raise UserError(faults)
