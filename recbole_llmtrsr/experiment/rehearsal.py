"""A rehearsal of every model of a comparison on a few events, before the first one trains for hours.

RecBole finds out what a model does not accept when it builds it, or at its first batch. So each of its models is built
on a few real events, trains on one batch and scores one. A model that fails is tried on the whole data, unless they are
too large, since so few events may be too few for it. Of language models the weights are not read, but they must exist,
and their tokenizers are loaded.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from recbole.trainer import Trainer
from recbole.utils import ModelType

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.recbole_faults import setting_up
from recbole_llmtrsr.data.location import interaction_files
from recbole_llmtrsr.experiment.run_data import load_run_data
from recbole_llmtrsr.llm.embeddings.text_vectors import TFIDF
from recbole_llmtrsr.llm.loading.source import ModelSource
from recbole_llmtrsr.llm.make_backbone import check_backbone
from recbole_llmtrsr.model.item_vectors import item_embedding
from recbole_llmtrsr.model.language_model_recommender import LanguageModelRecommender, is_served
from recbole_llmtrsr.model.sequential_recommender.litellm4rec import LiteLLM4Rec
from recbole_llmtrsr.model.sequential_recommender.llmseqsim import LLMSeqSim
from recbole_llmtrsr.registry import get_trainer
from recbole_llmtrsr.runtime import processes
from recbole_llmtrsr.runtime.clock import Clock
from recbole_llmtrsr.summarizer.writers.make_writer import is_local

_N_EVENTS = 600
_LARGEST = 50_000_000  # bytes of events that are rehearsed as a whole
_N_USERS = 20
_UNFILTERED = ("user_inter_num_interval", "item_inter_num_interval", "val_interval", "rm_dup_inter")


def rehearse(configs: Sequence[Config]) -> None:
    """Try every model of a comparison with one of its seeds.

    Raises:
        UserError: of the first that cannot be set up with its options and data.
    """
    if processes.count() > 1:  # all of them would rehearse at once
        return
    for config in {config.label: config for config in reversed(configs)}.values():
        if len(configs) > 1:  # a single run makes these checks as early
            _check_language_models(config)
        if config.model_class.__module__.startswith("recbole."):
            disabled = logging.root.manager.disable
            logging.disable(logging.WARNING)
            try:
                _rehearse_host_model(config)
            finally:
                logging.disable(disabled)


def _check_language_models(config: Config) -> None:
    """Find the language models that the options name, and load their tokenizers."""
    settings, encoders = config.settings, {}
    trusts = settings.backbone.trust_remote_code
    if issubclass(config.model_class, LanguageModelRecommender):
        if not is_served(config):
            check_backbone(settings, config["device"])
        if settings.summary.summary != "none" and is_local(settings.summary.summarizer):
            ModelSource.find("summarizer", settings.summary.summarizer, trusts).load_tokenizer()
    elif settings.text.text_init is not None:
        encoders["text_init"] = settings.text.text_init
    if issubclass(config.model_class, LLMSeqSim | LiteLLM4Rec) or settings.retrieval.retriever == "text":
        encoders["text_encoder"] = settings.text.text_encoder
    for role, name in encoders.items():
        if name != TFIDF:
            ModelSource.find(role, name, trusts).load_tokenizer(causal=False)


def _rehearse_host_model(config: Config) -> None:
    events = {path: _first_events(config, path) for path in interaction_files(config)}
    with tempfile.TemporaryDirectory() as folder:
        if any(len(lines) > _N_EVENTS for lines in events.values()):
            try:
                return _perform(_in_small(_aside(config, Path(folder)), events, Path(folder)))
            except Exception as error:
                if isinstance(error.__cause__, ImportError):  # more data do not install a package
                    raise
            if sum(path.stat().st_size for path in events) > _LARGEST:
                return None  # the run itself reports it if it fails
        try:
            return _perform(_aside(config, Path(folder)))
        except RuntimeError as error:
            if not should_reduce_batch_size(error):  # what a GPU holds may be too much for the main memory
                raise
    return None


def _perform(config: Config) -> None:
    data = load_run_data(config, Clock(), {})
    with setting_up(config, "the model"):
        model = config.model_class(config, data.train._dataset).to(config["device"])
    if config.settings.text.text_init is not None:
        item_embedding(model, 0)
    if config["MODEL_TYPE"] == ModelType.DECISIONTREE or get_trainer(config.model_class) is not Trainer:
        return  # their trainers take other steps
    with setting_up(config, "the training"):
        model.train()  # in which SGL draws its graphs
        if config["train_neg_sample_args"]["dynamic"]:
            data.train.get_model(model)
        loss = model.calculate_loss(next(iter(data.train)).to(config["device"]))
        total: Any = sum(loss) if isinstance(loss, tuple) else loss
        total.backward()
    score = model.full_sort_predict if config["eval_args"]["mode"]["test"] == "full" else model.predict
    with setting_up(config, "the evaluation"), torch.no_grad(), suppress(NotImplementedError):
        model.eval()
        for rows, *_ in islice(data.test, 1):
            score(rows.to(config["device"]))


def _aside(config: Config, folder: Path) -> Config:
    """The same options on the CPU, with candidates in the folder."""
    evaluation = dataclasses.replace(config.settings.evaluation, also_test=(), candidate_dir=str(folder / "candidates"))
    return config.changed(dataclasses.replace(config.settings, evaluation=evaluation), device=torch.device("cpu"))


def _first_events(config: Config, path: Path) -> list[str]:
    """The header and the first events of a file, dealt out to their first users so that each has some.

    In pre-split files events keep their users. Lines that lack a column are left out.
    """
    separator = config["field_separator"]
    with path.open(encoding=config["encoding"], newline="\n") as file:
        header, *rows = [line.rstrip("\r\n").split(separator) for line in islice(file, _N_EVENTS + 1)]
    rows = [row for row in rows if len(row) == len(header)]
    if config["benchmark_filename"] is None and rows:
        place = [cell.split(":")[0] for cell in header].index(config["USER_ID_FIELD"])
        users = list(dict.fromkeys(row[place] for row in rows))[:_N_USERS]
        for number, row in enumerate(rows):
            row[place] = users[number % len(users)]
    return [separator.join(row) for row in (header, *rows)]


def _in_small(config: Config, events: Mapping[Path, Sequence[str]], folder: Path) -> Config:
    """Options for these events and their items alone, without filters; other files are read as they are."""
    for path, lines in events.items():
        (folder / path.name).write_text("\n".join(lines) + "\n", encoding=config["encoding"])
    for path in Path(config["data_path"]).resolve().glob(f"{config['dataset']}.*"):
        if not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)
    arguments = config["eval_args"]
    modes = {phase: mode if mode in ("full", "labeled") else "uni1" for phase, mode in arguments["mode"].items()}
    protocol = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": modes}
    evaluation = dataclasses.replace(config.settings.evaluation, catalogue="interactions")
    settings = dataclasses.replace(config.settings, evaluation=evaluation)
    options = {"data_path": str(folder), "eval_args": {**arguments, **protocol}, **dict.fromkeys(_UNFILTERED)}
    return config.changed(settings, **options)
