"""Prepares the data of a run as the pipeline does (split, candidates, summaries), and parses flags of benchmarks."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.sources import Command, flags
from recbole_llmtrsr.data.dataset import LLMTRSRDataset, load_dataset
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.experiment.summary_stage import make_summaries
from recbole_llmtrsr.registry import get_dataset, get_model

commands = [Command()]  # the last one is that of this process
# By data set.
OPTIONS: dict[str, dict[str, Any]] = {
    "amazon-industrial": {"domain": "products", "item_text_fields": ["title", "brand", "description"]},
}


def run_parser(description: str | None) -> argparse.ArgumentParser:
    """Create a parser with the flags that all benchmarks on the data of a run share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--data_path", help="folder that contains <data>/<data>.inter; not needed for ml-100k")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the flags and set the threads; ``known.others`` are the options of the run, which ``load_run`` applies."""
    known, others = parser.parse_known_args()
    known.others = others
    commands.append(Command(flags=flags(others)))
    torch.set_num_threads(known.threads)
    return known


@dataclass(frozen=True)
class Run:
    """The options of a run, and its train, valid and test loaders."""

    config: Config
    loaders: tuple[Any, Any, Any]

    @property
    def dataset(self) -> Any:
        """The data set with the training rows, from which models are built."""
        return self.loaders[0]._dataset


def load_run(data: str, data_path: str | None, folder: Path, model: str = "LLMTRSR", **options: Any) -> Run:
    """Read a data set and, if the model reads summaries, summarize its histories.

    Args:
        data: name of the data set.
        data_path: the folder that contains the data set's folder; not needed for ml-100k.
        folder: folder for the files that the run writes.
        model: name of the model.
        options: options of the run; flags of the command line override them.
    """
    fixed: dict[str, Any] = {"candidate_dir": str(folder), "checkpoint_dir": str(folder), "summary_store": None}
    fixed |= {"state": "WARNING", "show_progress": False} | OPTIONS.get(data, {})
    fixed |= {"data_path": data_path} if data_path else {}
    config = Config(get_model(model), data, [], fixed | options, command=commands[-1])
    dataset = load_dataset(get_dataset(get_model(model)), config)
    loaders, *_ = make_loaders(config, dataset)
    if isinstance(dataset, LLMTRSRDataset):
        make_summaries(config, dataset, loaders)
    return Run(config, loaders)
