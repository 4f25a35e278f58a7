"""Retriever that loads a trained RecBole model from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType, init_seed
from torch import Tensor

from recbole_llmtrsr.config.config import Config, SavedConfig
from recbole_llmtrsr.data.identity import identity
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime.checkpoints import load_checkpoint
from recbole_llmtrsr.runtime.file_digest import file_digest

_PARTS = {"config", "given_options", "identity", "state_dict"}
_NO_MODEL = "tfidf"  # the text_encoder that loads no model


class TrainedRetriever:
    """Scores the catalogue with a frozen RecBole model.

    Args:
        model: the model.
        path: the model's checkpoint; None for a model without one.
    """

    def __init__(self, model: AbstractRecommender, path: Path | None) -> None:
        self._model, self._path = model.eval().requires_grad_(False), path
        self._resolution: float | None = getattr(model, "score_resolution", None)
        if path is not None:
            with path.open("rb") as file:  # hashed at once, since the file may change or vanish during training
                self._digest = file_digest(file)

    @torch.no_grad()
    def scores(self, interaction: Interaction) -> Tensor:
        """Return the scores of the model's full ranking in its precision. [batch_size, n_items]"""
        device = self._model.device
        with torch.autocast(device.type, enabled=False):
            scores = self._model.full_sort_predict(interaction.to(device)).view(len(interaction), -1).to(device)
        return scores if self._resolution is None else torch.round(scores / self._resolution)

    def report(self) -> dict[str, Any]:
        """Return the model and its checkpoint, for result.json."""
        report = {"retriever": type(self._model).__name__}
        if self._path is None:
            return {**report, "retriever_checkpoint": None}
        return {**report, "retriever_checkpoint": str(self._path), "retriever_digest": self._digest}


def trained_retriever(
    path: Path,
    config: Config,
    dataset: Dataset,
    get_model: Callable[[str], type[AbstractRecommender]],
    get_dataset: Callable[[type[AbstractRecommender]], type[Dataset]],
) -> TrainedRetriever:
    """Load the checkpoint of a RecBole model that this package trained.

    Args:
        path: the .pth file.
        config: configuration of the run that re-ranks.
        dataset: the built dataset of that run.
        get_model: function that returns a model class by its name.
        get_dataset: function that returns the dataset class of a model class.

    Raises:
        UserError: if the checkpoint is missing or lacks its config and data identity; if it belongs to another
            dataset, other ids or another split, whose training rows may be targets of this run; or if the model cannot
            rank a whole catalogue.
    """
    checkpoint = load_checkpoint(path, map_location=config["device"])
    if not set(checkpoint) >= _PARTS:
        raise UserError(
            f"retriever {path} does not record its training data: train it with run_recbole_llmtrsr of this version,"
            " which saves that record"
        )
    model_class = get_model(checkpoint["config"]["model"])
    _refuse(
        [
            *faults_of_model(str(path), model_class, checkpoint["config"]["MAX_ITEM_LIST_LENGTH"], config),
            *_faults_of_data(path, checkpoint, config, dataset),
        ]
    )
    own = SavedConfig.options_of(checkpoint)
    _refuse(_faults_of_encoder(path, model_class, own, config))
    places = {name: config[name] for name in ("use_gpu", "gpu_id")}
    places |= {"data_path": str(Path(config["data_path"]).parent), "vector_dir": config.settings.text.vector_dir}
    options = {**own, **places}
    saved = SavedConfig(model_class, config["dataset"], None, options)
    # Some models are built from item features or a graph of the training rows, so the whole dataset is needed.
    init_seed(saved.data_seed, saved["reproducibility"])
    own = get_dataset(model_class)(saved).build()[0]
    _refuse(_faults_of_data(path, {**checkpoint, "identity": identity(own)}, config, dataset))
    model = model_class(saved, own).to(config["device"])
    model.load_state_dict(checkpoint["state_dict"])
    model.load_other_parameter(checkpoint.get("other_parameter"))
    return TrainedRetriever(model, path)


def faults_of_model(retriever: str, model_class: type[AbstractRecommender], window: int, config: Config) -> list[str]:
    """Return the reasons why a model cannot serve as the retriever of a run.

    Args:
        retriever: file or name of the retriever, for messages.
        model_class: class of the retriever.
        window: MAX_ITEM_LIST_LENGTH with which the retriever was or will be trained.
        config: configuration of the run that re-ranks.
    """
    name, faults = model_class.__name__, []
    if hasattr(model_class, "check_config"):
        faults.append(f"retriever {retriever} is a {name}, which is a language model: choose one of RecBole's models")
    elif model_class.full_sort_predict is AbstractRecommender.full_sort_predict:
        faults.append(
            f"retriever {retriever} is a {name}, which cannot rank a whole catalogue at once: choose another model"
        )
    if model_class.type != ModelType.SEQUENTIAL:
        return [*faults, *faults_of_rule(name, config)]
    if window != config["MAX_ITEM_LIST_LENGTH"]:
        faults.append(
            f"retriever {retriever} was configured for the last {window} events, but this run uses"
            f" {config['MAX_ITEM_LIST_LENGTH']}: set MAX_ITEM_LIST_LENGTH: {window}"
        )
    return faults


def faults_of_rule(name: str, config: Config) -> list[str]:
    """Return the fault of a non-sequential retriever whose top k would consist of items that the user already chose."""
    if config.settings.evaluation.exclude_seen != "auto":
        return []
    return [
        f"retriever {name} is not a sequential model, and would rank first the items that a user already chose, because"
        " exclude_seen: auto keeps them among the candidates: set exclude_seen: yes (RecBole's rule for"
        " non-sequential models) or no"
    ]


def _faults_of_encoder(
    path: Path, model_class: type[AbstractRecommender], options: Mapping[str, Any], config: Config
) -> list[str]:
    """Return the fault of a checkpoint with another text encoder than that of this run's options."""
    encoder = options.get("text_encoder", _NO_MODEL)
    if model_class.__name__ != "LLMSeqSim" or encoder in (_NO_MODEL, config.settings.text.text_encoder):
        return []
    return [
        f"retriever {path} was trained with text_encoder '{encoder}', but this run sets"
        f" '{config.settings.text.text_encoder}': set text_encoder: {encoder} if you trust that model"
    ]


def _faults_of_data(path: Path, checkpoint: Mapping[str, Any], config: Config, dataset: Dataset) -> list[str]:
    remedy = "train the retriever with the data and the options of this run"
    theirs = checkpoint["config"]["dataset"]
    if theirs != config["dataset"]:
        return [f"retriever {path} was trained on dataset '{theirs}', not '{config['dataset']}': {remedy}"]
    differing = [name for name, digest in identity(dataset).items() if checkpoint["identity"].get(name) != digest]
    ids = [name for name in differing if name != "held_out"]
    if ids:
        return [
            f"retriever {path} was trained with other {' and '.join(ids)} than this run (other files, filters or"
            f" catalogue), so its ids do not match: {remedy}"
        ]
    if differing:
        return [
            f"retriever {path} was trained on another split (eval_args, data_seed, filters or order of events), so its"
            f" training data may include test targets of this run: {remedy}"
        ]
    return []


def _refuse(faults: list[str]) -> None:
    if faults:
        raise UserError(faults)
