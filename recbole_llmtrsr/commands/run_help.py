"""The most used options of a run with their defaults, read from where the options are declared."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from recbole_llmtrsr.config.settings import all_options
from recbole_llmtrsr.config.sources import properties_dir, read_properties, recbole_properties

SHOWN: Mapping[str, tuple[str, ...]] = {
    "data": ("data_path", "item_text_fields", "domain", "max_item_tokens", "max_train_targets_per_user"),
    "summaries": ("summary", "summarizer", "block_size", "n_recent_items", "dry_run"),
    "language model": ("backbone", "load_in", "lora_rank", "objective"),
    "training": ("epochs", "learning_rate", "train_batch_size", "stopping_step", "seed", "use_gpu", "resume"),
    "evaluation": ("metrics", "topk", "valid_metric", "seeds", "also_test", "retriever", "rerank_top_k"),
    "results": ("result_dir", "report", "ablations", "explain"),
}
_DOCUMENTED = re.compile(r"^(\w+):[^#]*#\s*\([^)]*\)\s*(.+?)\s*$", flags=re.MULTILINE)  # in RecBole's property files


def add_most_used(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``SHOWN`` to a help, each as ``--name=default`` with its documentation."""
    documented, defaults = _documentation(), _defaults()
    parser.add_argument_group(
        "most used options",
        "With the defaults of LLMTRSR, some of which the property file of a data set changes. Every other option of"
        " RecBole or of this package (docs/options.md) is accepted too, also as --SASRec.epochs=5 for one model of a"
        " comparison.",
    )
    for title, names in SHOWN.items():
        group = parser.add_argument_group(f"  {title}")
        for name in names:
            text = documented[name].replace("%", "%%")
            group.add_argument(f"--{name}={_written(defaults[name])}", action="store_true", help=text)


def _documentation() -> dict[str, str]:
    host = (recbole_properties() / "overall.yaml").read_text(encoding="utf-8")
    return {**dict(_DOCUMENTED.findall(host)), **{spec.name: spec.metadata["doc"] for _, spec, _ in all_options()}}


def _defaults() -> dict[str, Any]:
    """What a run of LLMTRSR starts from: the host's defaults, ours, the protocol's and the model's."""
    ours = {spec.name: {} if spec.default is dataclasses.MISSING else spec.default for _, spec, _ in all_options()}
    host, protocol, model = (read_properties(file) for file in _files())
    return {**host, **ours, **protocol, **model}


def _files() -> tuple[Path, Path, Path]:
    ours = properties_dir()
    return (
        recbole_properties() / "overall.yaml",
        ours / "quick_start_config" / "protocol.yaml",
        ours / "model" / "LLMTRSR.yaml",
    )


def _written(value: object) -> str:
    """A value as the command line takes it; no blanks, so that a flag stays one word of a shell.

    >>> _written(["Recall", "MRR"]), _written(None), _written(0.001)
    ('[Recall,MRR]', '~', '0.001')
    """
    if value is None:
        return "~"
    if not isinstance(value, list | tuple):
        return str(value)
    return yaml.safe_dump(list(value), default_flow_style=True, width=1000).strip().replace(", ", ",")
