"""Classes by name: our tables first, RecBole's lookup behind them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import recbole
import recbole.utils
from recbole.data.dataset import Dataset
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import TraditionalTrainer
from recbole.utils import ModelType

from recbole_llmtrsr.config import config
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.data.histories import with_history_ids
from recbole_llmtrsr.errors import UserError, did_you_mean
from recbole_llmtrsr.model.language_model_recommender import LanguageModelRecommender
from recbole_llmtrsr.model.sequential_recommender.hllm import HLLM
from recbole_llmtrsr.model.sequential_recommender.litellm4rec import LiteLLM4Rec
from recbole_llmtrsr.model.sequential_recommender.llmseqsim import LLMSeqSim
from recbole_llmtrsr.model.sequential_recommender.llmtrsr import LLMTRSR
from recbole_llmtrsr.model.sequential_recommender.tallrec import TALLRec
from recbole_llmtrsr.training.trainer import LLMTRSRTrainer

MODELS: dict[str, type] = {
    "LLMTRSR": LLMTRSR,
    "TALLRec": TALLRec,
    "HLLM": HLLM,
    "LiteLLM4Rec": LiteLLM4Rec,
    "LLMSeqSim": LLMSeqSim,
}
DATASETS: dict[str, type] = dict.fromkeys(("LLMTRSR", "TALLRec", "HLLM", "LiteLLM4Rec"), LLMTRSRDataset)
TRAINERS: dict[str, type] = {
    "LLMTRSR": LLMTRSRTrainer,
    **dict.fromkeys(("TALLRec", "HLLM", "LiteLLM4Rec"), LLMTRSRTrainer),
    "LLMSeqSim": TraditionalTrainer,  # one epoch, in which nothing is learned
}

_RECBOLE_DATASETS = {ModelType.SEQUENTIAL: "SequentialDataset", ModelType.KNOWLEDGE: "KnowledgeBasedDataset"}


def register_model(
    model_class: type, trainer: type | None = None, dataset: type | None = None, options: Sequence[str] = ()
) -> None:
    """Register a model class for this process, so that ``--model=<name of the class>`` selects it.

    The model uses the property file of its nearest base class that has one, of this package or of RecBole.

    Args:
        model_class: a RecBole model; a model on a language model inherits LLMTRSR or LanguageModelRecommender.
        trainer: the trainer class; by default LLMTRSRTrainer for a model on a language model, and otherwise the trainer
            of its base class.
        dataset: the data set class; by default LLMTRSRDataset, which holds texts and summaries, for a model on a
            language model, and otherwise the data set of its base class.
        options: names of further options, which the model reads as ``config[name]``; unset options are None.

    Raises:
        UserError: a model of this name already exists.

    Example:
        ```python
        register_model(MyModel, options=["my_rate"])  # MyModel reads config["my_rate"]
        compare(["MyModel", "SASRec"], "ml-100k", config_dict={"my_rate": 0.5})
        ```
    """
    name = model_class.__name__
    if name in model_names():
        raise UserError(f"model '{name}' exists already: give your class another name")
    on_language_model = issubclass(model_class, LanguageModelRecommender)
    MODELS[name] = model_class
    config.OWN_MODELS.add(name)
    config.OWN_OPTIONS.update(options)
    if trainer or on_language_model:
        TRAINERS[name] = trainer or LLMTRSRTrainer
    if dataset or on_language_model:
        DATASETS[name] = dataset or LLMTRSRDataset


def get_model(name: str) -> type:
    """The model class of a name.

    Raises:
        UserError: the name is neither a model of this package nor of RecBole, or the model needs a missing package.
    """
    if name in MODELS:
        return MODELS[name]
    names = model_names()
    if name not in names:
        hint = did_you_mean(name, names, any_case=True)
        raise UserError(
            f"model '{name}' is neither one of this package ({', '.join(MODELS)}) nor one of RecBole's"
            f" {len(names) - len(MODELS)} models{hint}; import the file that registers your model before the run"
        )
    try:
        return recbole.utils.get_model(name)  # type: ignore[no-any-return]
    except ImportError as error:
        raise UserError(f"model '{name}' needs a package that is missing ({error}): install it") from error


def model_names() -> list[str]:
    """Names of all models that can be run."""
    files = (Path(recbole.__file__).parent / "properties" / "model").glob("*.yaml")
    return sorted({*MODELS, *(file.stem for file in files)})


def get_dataset(model_class: type[AbstractRecommender]) -> type[Dataset]:
    """The data set class of a model; its rows have history ids for every model."""
    if model_class.__name__ in DATASETS:
        return DATASETS[model_class.__name__]
    module = importlib.import_module("recbole.data.dataset")
    own = (getattr(module, f"{name}Dataset", None) for name in _names(model_class))
    default = getattr(module, _RECBOLE_DATASETS.get(model_class.type, "Dataset"))
    return with_history_ids(next((found for found in own if found is not None), default))


def get_trainer(model_class: type[AbstractRecommender]) -> type:
    """The trainer class of a model."""
    if model_class.__name__ in TRAINERS:
        return TRAINERS[model_class.__name__]
    module, names = importlib.import_module("recbole.trainer"), _names(model_class)
    name = next((name for name in names if hasattr(module, f"{name}Trainer")), names[0])
    return recbole.utils.get_trainer(model_class.type, name)  # type: ignore[no-any-return]


def _names(model_class: type) -> list[str]:
    """Names by which RecBole finds a model's data set and trainer, including those of a registered model's bases."""
    classes = model_class.__mro__ if model_class.__name__ in config.OWN_MODELS else (model_class,)
    return [one.__name__ for one in classes]
