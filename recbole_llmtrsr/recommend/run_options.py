"""The options of a saved run, and which of them this machine may replace.

A run folder may come from elsewhere. So a model of the hub, a server or a place outside of the working folder that its
checkpoint names is used only if the caller names it again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_llmtrsr.config.config import SavedConfig
from recbole_llmtrsr.config.option_kinds import options_of
from recbole_llmtrsr.config.settings import all_options
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.builtin import BUILTIN
from recbole_llmtrsr.llm.embeddings.text_vectors import TFIDF
from recbole_llmtrsr.llm.generators.server_client import PREFIX as SERVER
from recbole_llmtrsr.llm.generators.server_client import parse_server
from recbole_llmtrsr.llm.loading.source import is_hub_name
from recbole_llmtrsr.model.language_model_recommender import LanguageModelRecommender
from recbole_llmtrsr.summarizer.writers.make_writer import FILE, is_local

PLACES = options_of("place")  # all others decide what a score is, and stay the run's
# What options name, where that is a model or a place; 'model', 'read' or 'written'.
NAMING = {
    spec.name: spec.metadata["names"] for _, spec, _ in all_options() if spec.metadata["names"] not in ("", "text")
}
_OF_VECTORS = ("text_encoder", "vector_dir")


def read_options(saved: Mapping[str, Any], model_class: type) -> dict[str, Any]:
    """Options of a checkpoint's run, without those for writing files and names of what a loaded run does not read."""
    own = SavedConfig.options_of(saved)
    unread = {*options_of("writes"), *(set(NAMING) - _read_names(model_class, own))}
    return {name: value for name, value in own.items() if name not in unread}


def _read_names(model_class: type, own: Mapping[str, Any]) -> set[str]:
    """Options of ``NAMING`` that a loaded model reads."""
    if not issubclass(model_class, LanguageModelRecommender):
        # Options of a run of RecBole's model may be meant for models that it was compared with.
        return set() if model_class.__module__.startswith("recbole.") else {*_OF_VECTORS}
    read = set(PLACES)
    if own["summary"] == "none":
        read -= {"summarizer", "summary_store"}
    if own.get("retriever") in (None, "Pop"):
        read -= {*_OF_VECTORS}
    return read


def check_summarizer(file: Path, own: Mapping[str, Any], places: Mapping[str, Any]) -> None:
    """Refuse another writer than the run's, and a server that only the checkpoint names.

    Raises:
        UserError: with the option that allows it.
    """
    if "summarizer" not in own:
        return
    of_run = str(own["summarizer"])
    if "summarizer" in places:
        if _writer(str(places["summarizer"])) != _writer(of_run):
            raise UserError(
                f"summarizer '{places['summarizer']}' writes other summaries than '{of_run}', with which {file} was"
                " trained: give the same one, wherever it is now"
            )
    elif of_run.startswith(SERVER):
        raise UserError(
            f"the run of {file} has its summaries written by {of_run}: if histories may be sent there, say so again"
            f" with options={{'summarizer': '{of_run}'}}"
        )


def check_named(file: Path, own: Mapping[str, Any], places: Mapping[str, Any]) -> None:
    """Refuse models of the hub, and places outside of the working folder, that only the checkpoint names.

    Raises:
        UserError: with the option that allows it.
    """
    for name, kind in NAMING.items():
        value = own.get(name)
        if value is None:
            continue
        again = f"say so again with options={{'{name}': '{value}'}}"
        if name == "text_encoder" and places.get(name, value) != value:
            raise UserError(
                f"{name} '{places[name]}' makes other vectors than '{value}', of the run of {file}: {again}"
            )
        if name in places:
            continue
        if kind == "model" and _is_of_hub(name, str(value)):
            raise UserError(
                f"the run of {file} takes its {name} '{value}' from the model hub, as there is no such folder here: if"
                f" it may be fetched from there, {again}, or give the model's folder"
            )
        if kind == "written" and not Path(os.path.expanduser(str(value))).resolve().is_relative_to(Path.cwd()):
            memory = " (None: in memory)" if name == "summary_store" else ""
            raise UserError(
                f"the run of {file} keeps what it makes in {value} ({name}), outside of this folder: if that may be"
                f" written, {again}, or name another one{memory}"
            )


def _is_of_hub(option: str, value: str) -> bool:
    """Whether loading the model that an option names may send a request to the hub."""
    if option == "summarizer":
        return is_local(value) and is_hub_name(value)
    return value not in (BUILTIN if option == "backbone" else TFIDF,) and is_hub_name(value)


def _writer(summarizer: str) -> str:
    """The part of a summarizer that may not differ: its kind, and the model of a server; its place may."""
    if summarizer.startswith(SERVER):
        return f"{SERVER}{parse_server(summarizer)[0]}"
    if is_local(summarizer):
        return "local"
    return "file" if summarizer.startswith(FILE) else summarizer
