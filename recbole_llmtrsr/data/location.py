"""Checks that the atomic files exist and are valid, before anything is loaded or downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.atomic_files import header_fault
from recbole_llmtrsr.data.columns import faults_of_columns
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime.file_digest import file_digest


def check_dataset_files(config: Config) -> None:
    """Refuse missing or invalid atomic files, and cached datasets, which would have to be unpickled.

    Raises:
        UserError: with the missing file and how to obtain it, or the error in its header.
    """
    folder, name = Path(config["data_path"]), config["dataset"]
    if Path(name).name != name:
        raise UserError(
            f"dataset must be the name of a folder below data_path, got '{name}': set data_path to the folder above it"
        )
    parts = config["benchmark_filename"]
    if parts is not None and not (isinstance(parts, list) and len(parts) == 3):
        raise UserError(f"benchmark_filename must be a list of three, such as [train, valid, test], got {parts!r}")
    files = interaction_files(config)
    columns = (config["USER_ID_FIELD"], config["ITEM_ID_FIELD"])
    faults, missing = [], []
    for path in files:
        if not path.is_file():
            missing.append(path.name)
        elif fault := header_fault(path, columns, config["field_separator"], config["encoding"]):
            faults.append(fault)
    if missing:
        faults.insert(
            0,
            f"dataset '{name}': no {', '.join(missing)} in {folder}; put RecBole's atomic files there, point data_path"
            " to the folder that holds the data set's folder, make them with"
            " 'python -m recbole_llmtrsr.data.prepare', or use ml-100k, which comes with RecBole",
        )
    faults += [
        f"{option}: saved datasets are pickles, which are not loaded for safety; leave the option out"
        for option in ("dataset_save_path", "dataloaders_save_path")
        if config[option]
    ]
    faults = faults or [*faults_of_columns(config)]
    if faults:
        raise UserError(faults)


def interaction_files(config: Config) -> list[Path]:
    """The .inter files of a data set: one, or the parts of a pre-split one."""
    folder, name = Path(config["data_path"]), config["dataset"]
    return [
        folder / f"{name}.{part}" for part in [f"{p}.inter" for p in config["benchmark_filename"] or ()] or ["inter"]
    ]


def changed_files(config: Config, then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of the files of events, and of impressions if the run uses them, whose ``file_digests`` differ."""
    names = [path.name for path in interaction_files(config)]
    of_test = config["eval_args"]["mode"]["test"]
    if "impressions" in (of_test, config.settings.training.train_on):
        names.append(f"{config['dataset']}.impressions.npz")
    return [name for name in names if then.get(name) != now.get(name)]


def file_digests(config: Config) -> dict[str, str]:
    """SHA-256 of a data set's atomic files, by name, and of a file of summaries (``summarizer: file:<path>``)."""
    folder, name = Path(config["data_path"]), config["dataset"]
    paths = {path.name: path for path in sorted(folder.glob(f"{name}.*")) if path.is_file()}
    writer, _, source = config.settings.summary.summarizer.partition(":")
    if writer == "file" and Path(source).expanduser().is_file():
        paths[source] = Path(source).expanduser()
    digests = {}
    for name, path in paths.items():
        with path.open("rb") as file:
            digests[name] = file_digest(file)
    return digests
