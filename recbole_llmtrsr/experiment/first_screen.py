"""What a run shows before it trains: its data, the options that were set, its summaries and its model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole.model.abstract_recommender import AbstractRecommender

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.experiment.run_data import RunData
from recbole_llmtrsr.llm.generators.server_client import parse_server
from recbole_llmtrsr.llm.loading.quantized import n_weights
from recbole_llmtrsr.llm.number_format import weights_dtype
from recbole_llmtrsr.model.language_model_recommender import is_served, reads_candidates
from recbole_llmtrsr.runtime.screen import facts

_SPLITS = {"LS": "leave one out", "RS": "split by ratio", "US": "split by user"}
_MOST = 60  # characters of an option
_MODES = {"full": "the whole catalogue", "labeled": "the labels of the data"}


def data_screen(config: Config, data: RunData) -> str:
    """The run's name, its data, candidates and set options, and where its log is."""
    found, arguments = data.report(), config["eval_args"]
    (kind, _), mode = next(iter(arguments["split"].items())), str(arguments["mode"]["test"])
    drawn = data.candidates.get("test")
    among = _MODES.get(mode, f"{mode}, {drawn.report()['n_per_history']} for each target" if drawn else mode)
    targets = f"{found['n_train']:,} training, {found['n_valid']:,} validation, {found['n_test']:,} test targets"
    users, items, events = data.size
    pairs = [
        ("data", f"{users:,} users, {items:,} items, {events:,} events"),
        ("split", f"{_SPLITS.get(kind, kind)}: {targets}"),
        ("candidates", among),
        ("options", ", ".join(_short(f"{name}={value}") for name, value in config.set_options().items())),
        ("log", _log_file()),
    ]
    return f"\n{config.label} on {config['dataset']}, seed {config['seed']}\n{facts(pairs)}"


def summary_screen(report: Mapping[str, Any]) -> str:
    """How many summaries there are and where their texts come from."""
    if "made" not in report:
        return facts([("summaries", f"{report['histories']:,} histories, from a file")])
    faults = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in report["remaining_faults"].items())
    parts = [
        f"{report['histories']:,} histories, {report['made'] + report['found']:,} texts",
        f"{report['made']:,} written now",
        f"{report['replaced']:,} replaced by extracts" if report["replaced"] else "",
        f"kept with faults: {faults}" if faults else "",
    ]
    return facts([("summaries", "; ".join(filter(None, parts)))])


def model_screen(config: Config, model: AbstractRecommender) -> str:
    """The size of the model, what of it is trained, and how and where it computes."""
    if is_served(config):
        where = parse_server(str(config.settings.backbone.scorer), "scorer")
        return facts([("scorer", f"{where[0]} at {where[1]}, zero-shot: nothing is loaded or trained")])
    device, total = str(config["device"]), sum(n_weights(weight) for weight in model.parameters())
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    share = "all trained" if total == trained else f"{_count(trained)} trained"
    if reads_candidates(model):
        options = config.settings.backbone
        kind = str(weights_dtype(options, config["device"])).removeprefix("torch.")
        return facts(
            [
                ("weights", f"{_count(total)}, {share}; backbone {options.backbone}"),
                ("device", f"{device}, {kind}, attention {model.backbone.attention}"),
            ]
        )
    return facts([("weights", f"{_count(total)}, {share}" if total > 1 else ""), ("device", device)])


def _count(number: int) -> str:
    """A number of weights.

    >>> _count(987), _count(1_025_024), _count(494_032_768), _count(7_000_000_000)
    ('987', '1.0 M', '494.0 M', '7.0 G')
    """
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def _short(text: str) -> str:
    """A set option without blanks, cut where it would not fit into a line."""
    text = text.replace(" ", "")
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."


def _log_file() -> str:
    files = [one.baseFilename for one in logging.getLogger().handlers if isinstance(one, logging.FileHandler)]
    if not files:
        return ""
    path = Path(files[-1])
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
