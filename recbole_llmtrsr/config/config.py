"""Config: RecBole's three sources with this plugin's property files layered in.

From weakest to strongest: RecBole's files, ours (protocol, model, dataset), a preset, the user's files, the dictionary,
the flags. Within one source ``SASRec.epochs`` applies to SASRec alone and beats ``epochs``.
"""

from __future__ import annotations

import codecs
import copy
from collections.abc import Iterator, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from recbole.config import Config as RecBoleConfig
from recbole.utils import ModelType

from recbole_llmtrsr.config.candidate_modes import candidate_mode
from recbole_llmtrsr.config.checks import faults_of_candidates, faults_of_evaluation, faults_of_keys, faults_of_prefixes
from recbole_llmtrsr.config.metric_names import register_metrics
from recbole_llmtrsr.config.recbole_options import WITHOUT_EFFECT, faults_of_kinds, faults_of_recbole_options
from recbole_llmtrsr.config.renamed_options import accepted_options, current_options
from recbole_llmtrsr.config.settings import OPTION_NAMES, Settings, unknown_options
from recbole_llmtrsr.config.sources import (
    RUNNER_FLAGS,
    Command,
    literal,
    option_from_sources,
    preset_files,
    properties_dir,
    read_properties,
    recbole_options,
    recbole_properties,
)
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.runtime import processes, recbole_patches

# Names of registered models, which options may name as ``<model>.<option>``, and options that only they read.
OWN_MODELS: set[str] = set()
OWN_OPTIONS: set[str] = set()


class Config(RecBoleConfig):  # type: ignore[misc]
    """RecBole's Config with our layers, flags that are parsed without being run as code, and checked options.

    Args:
        model: model class.
        dataset: dataset name; None takes it from the sources.
        config_file_list: property files, later ones stronger.
        config_dict: options by name.
        label: name of this row of a comparison, 'Model' or 'Model@variant'; ``<label>.<option>`` applies to it alone.
        command: the command line, whose flags are the strongest source. ``sys.argv`` is never read.

    Attributes:
        settings: our options, validated.
        identity: digests of what ids mean and of what is held out, from `describe_data`.
        data_files: SHA-256 of the files that were read, by name, likewise.

    Raises:
        UserError: an unreadable property file, a misspelt option, or a value that is not accepted.

    Deviation:
        ``eval_args`` is merged key by key over our protocol; RecBole replaces it whole, so that naming only the mode
        silently changes the split. Flags are Python literals or strings; RecBole passes them through ``eval``.
    """

    def __init__(
        self,
        model: type,
        dataset: str | None = None,
        config_file_list: Sequence[str | Path] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        label: str | None = None,
        command: Command | None = None,
    ) -> None:
        self.label: str = label or model.__name__
        self.command = command or Command()
        self.identity: Mapping[str, str] = {}
        self.data_files: Mapping[str, str] = {}
        register_metrics()
        recbole_patches.apply()  # RecBole's Config is the first of its parts to fail on today's NumPy
        files, options = (
            list(config_file_list or []),
            accepted_options(copy.deepcopy(dict(config_dict or {}))),
        )  # RecBole writes into it
        preset = self.command.flags.get("preset") or option_from_sources("preset", files, options)
        if preset:
            files = [*preset_files(str(preset)), *files]
        try:
            super().__init__(model, dataset, files, options)
        except UserError:
            raise
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:  # what RecBole's own checks raise
            raise UserError(f"RecBole does not accept these options: {error}") from error
        _refuse([*faults_of_evaluation(self.final_config_dict)])
        if _is_utf8(self.final_config_dict.get("encoding") or "utf-8"):  # RecBole takes the machine's where none is set
            self.final_config_dict["encoding"] = "utf-8-sig"  # a byte order mark is no part of the first column's name
        self.settings = Settings.from_options(self.final_config_dict)
        _refuse([*faults_of_candidates(self.final_config_dict, self.settings.evaluation.also_test)])

    def _load_config_files(self, file_list: Sequence[str | Path]) -> dict[str, Any]:
        # Kept apart: SASRec.epochs in an earlier file is weaker than epochs in a later one.
        self._files = [self._read(Path(file)) for file in file_list]
        return {key: value for content in self._files for key, value in content.items()}

    def _read(self, file: Path) -> dict[str, Any]:
        return accepted_options(read_properties(file, self.yaml_loader))

    def _load_cmd_line(self) -> dict[str, Any]:
        given = {name: value for name, value in self.command.flags.items() if name not in RUNNER_FLAGS}
        return accepted_options(self._convert_config_dict(given))

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        return {key: literal(value) if isinstance(value, str) else value for key, value in config_dict.items()}

    def _merge_external_config_dict(self) -> None:
        self.external_config_dict = {**self.file_config_dict, **self.variable_config_dict, **self.cmd_config_dict}

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        classes = [one.__name__ for one in model_class.__mro__] if model in OWN_MODELS else [model]
        of_recbole = (name for name in classes if (recbole_properties() / "model" / f"{name}.yaml").is_file())
        super()._load_internal_config_dict(next(of_recbole, model), model_class, dataset)
        ours = properties_dir()
        self._merge(self.internal_config_dict, self._read(ours / "quick_start_config" / "protocol.yaml"))
        if not (recbole_properties() / "dataset" / f"{dataset}.yaml").is_file():
            # Of a data set that RecBole has no file for, it would load no times, so no sequential model could run.
            columns = [self.internal_config_dict[f"{name}_FIELD"] for name in ("USER_ID", "ITEM_ID", "TIME")]
            self.internal_config_dict["load_col"] = {"inter": columns}
        of_classes = (ours / "model" / f"{name}.yaml" for name in classes)
        of_model = next((file for file in of_classes if file.is_file()), None)
        for file in (of_model, ours / "dataset" / f"{dataset}.yaml"):
            if file is not None and file.is_file():
                for options in self._for_this(self._read(file)):
                    self._merge(self.internal_config_dict, options)

    def _get_final_config_dict(self) -> dict[str, Any]:
        final = dict(self.internal_config_dict)
        self._given: dict[str, Any] = {}
        own: set[str] = set()  # options that a source so far set for this model alone
        for source in (*self._files, self.variable_config_dict, self.cmd_config_dict):
            of_all, *of_this = self._for_this(source)
            of_model = {name for options in of_this for name in options}
            for name in sorted((own & of_all.keys()) - of_model):
                if final[name] != of_all[name]:
                    getLogger().warning(
                        f"{name}: {of_all[name]} applies to every model, also to {self.label}, whose {name}:"
                        f" {final[name]} came before it (property files in their order, then config_dict, then flags);"
                        f" set {self.label}.{name} where it should stay"
                    )
            own = (own - of_all.keys()) | of_model
            for options in (of_all, *of_this):
                self._merge(final, options)
                self._merge(self._given, options)
        has_input_type = hasattr(self.model_class, "input_type")
        if final["MODEL_TYPE"] == ModelType.SEQUENTIAL and not has_input_type and final.get("loss_type") == "CE":
            # RecBole refuses training negatives beside a softmax over all items, yet its own defaults set them.
            final["train_neg_sample_args"] = None
        if "load_col" not in self._given:
            final["load_col"] = self._renamed_columns(final)
        self._check_names()
        without_ours = {name: value for name, value in self.internal_config_dict.items() if name not in OPTION_NAMES}
        _refuse(
            [
                *faults_of_recbole_options(final, self._given, has_input_type),
                *faults_of_kinds(self._given, without_ours),
            ]
        )
        return final

    def _renamed_columns(self, final: Mapping[str, Any]) -> Any:
        """The columns that property files load, under the names that the user gave to users, items and times."""
        before = self.internal_config_dict
        names = {before[name]: final[name] for name in before if name.endswith("_FIELD") and final[name]}
        loaded = final["load_col"]
        if not isinstance(loaded, dict):
            return loaded
        return {
            file: columns if isinstance(columns, str) else [names.get(column, column) for column in columns]
            for file, columns in loaded.items()
        }

    def _for_this(self, source: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Options of a source for all models, then those for this model alone, then for this variant of it."""
        yield {key: value for key, value in source.items() if "." not in key}
        for prefix in dict.fromkeys((f"{self.model_class.__name__}.", f"{self.label}.")):
            yield {key.removeprefix(prefix): value for key, value in source.items() if key.startswith(prefix)}

    @staticmethod
    def _merge(target: dict[str, Any], source: Mapping[str, Any]) -> None:
        for key, value in source.items():
            if key == "eval_args" and isinstance(value, dict) and isinstance(target.get(key), dict):
                value = {**target[key], **value}
            target[key] = value

    def _set_eval_neg_sample_args(self, phase: Literal["valid", "test"]) -> None:
        mode = self.final_config_dict["eval_args"]["mode"][phase]
        candidate_mode(str(mode))
        # Our loaders make the candidate sets; RecBole needs some arguments to make its samplers of.
        sampled = {"distribution": "uniform", "sample_num": "none" if mode == "full" else 1}
        unsampled = {"distribution": "none", "sample_num": "none"}
        self.final_config_dict[f"{phase}_neg_sample_args"] = unsampled if mode == "labeled" else sampled

    def _init_device(self) -> None:
        """RecBole's choice; of several processes each takes its own device, and the main one alone shows progress."""
        options, own, asked = self.final_config_dict, processes.local_rank(), self._asked_gpu()
        if processes.launched() == 1:
            super()._init_device()
            if asked is not None and str(asked) and options["device"].type == "cpu":
                getLogger().warning(
                    f"gpu_id: {asked} was asked for, but torch {torch.__version__} finds none: it runs on the CPU;"
                    " see nvidia-smi, or install a torch build for this machine's GPUs (https://pytorch.org)"
                )
            return
        if asked is not None and str(asked):
            raise UserError(
                f"gpu_id: {asked} is for one process, and each of several processes takes one GPU: leave it out, and"
                " name those to use in CUDA_VISIBLE_DEVICES"
            )
        n_gpus = torch.cuda.device_count() if options["use_gpu"] and str(options["gpu_id"]) else 0
        if 0 < n_gpus <= own:
            raise UserError(
                f"process {own} of this machine has no GPU, since there are {n_gpus}: launch as many processes, or"
                " compute on the CPU with --use_gpu=False"
            )
        device = torch.device("cuda", own) if n_gpus else torch.device("cpu")
        if n_gpus:
            torch.cuda.set_device(device)
        options |= {"gpu_id": str(options["gpu_id"]), "single_spec": True, "local_rank": 0, "device": device}
        if not processes.is_main():
            options |= {"show_progress": False, "log_wandb": False}

    def _asked_gpu(self) -> Any:
        """The gpu_id that the user gave; None without one."""
        return self.external_config_dict.get("gpu_id")

    @property
    def data_seed(self) -> int:
        """Seed of the split by users and of the candidates."""
        own = self.settings.evaluation.data_seed
        return int(self["seed"] if own is None else own)

    def _check_names(self) -> None:
        known = recbole_options() | OWN_OPTIONS | set(self.internal_config_dict) | set(RUNNER_FLAGS)
        names = {name.rsplit(".", 1)[-1]: None for name in self.external_config_dict}
        faults, strangers = unknown_options(names, known)
        folders = (recbole_properties() / "model", properties_dir() / "model")
        models = {self.model, *OWN_MODELS, *(file.stem for folder in folders for file in folder.glob("*.yaml"))}
        faults += faults_of_prefixes(self.external_config_dict, models)
        faults += faults_of_keys([self.file_config_dict, self.variable_config_dict, self.cmd_config_dict])
        _refuse(faults)
        for name in strangers:
            getLogger().warning(f"option '{name}' is known neither to RecBole nor to recbole_llmtrsr and has no effect")
        for name in sorted(self._given.keys() & WITHOUT_EFFECT.keys()):
            if self._given[name] not in (None, self.internal_config_dict.get(name)):
                getLogger().warning(f"{name}: {self._given[name]} has no effect here: {WITHOUT_EFFECT[name]}")

    @property
    def given(self) -> Mapping[str, Any]:
        """The options that the user set for this model, by name, before any is completed."""
        return self._given

    def describe_data(self, identity: Mapping[str, str], files: Mapping[str, str] | None = None) -> None:
        """Set `identity` and `data_files`, which checkpoints save."""
        self.identity, self.data_files = identity, files or {}

    def changed(self, settings: Settings, **options: Any) -> Config:
        """A copy with these settings and options of RecBole's, as RecBole writes to the Config that it is given."""
        own = copy.copy(self)
        own.final_config_dict = {**copy.deepcopy(self.final_config_dict), **options}
        own.settings = settings
        own.describe_data({})
        return own

    def checkpoint_parts(self) -> dict[str, Any]:
        """The options and the identity of the data of a run, as plain values for its checkpoint."""
        return {
            "config": self.effective_options(),
            "given_options": _plain(self._given),
            "identity": dict(self.identity),
            "data_files": dict(self.data_files),
        }

    def set_options(self) -> dict[str, Any]:
        """The options that files, dictionary and flags set to other values than the defaults."""
        defaults = {**Settings.from_options({}).flat(), **self.internal_config_dict}
        return {
            name: value for name, value in sorted(self._given.items()) if _plain(value) != _plain(defaults.get(name))
        }

    def effective_options(self) -> dict[str, Any]:
        """Every option that RecBole or we read, with its value, as plain JSON types."""
        own = {**self.final_config_dict, **self.settings.flat()}
        return {key: _plain(value) for key, value in sorted(own.items())}


class SavedConfig(Config):
    """The options of a finished run."""

    def _asked_gpu(self) -> Any:
        return None  # the device is the present run's

    @staticmethod
    def options_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
        """Options of a checkpoint's run; the file may come from elsewhere, so nothing in it is trusted.

        Options for one model or variant are left out, since they would beat what is set beside them.
        """
        given, of_run = (current_options(checkpoint[part]) for part in ("given_options", "config"))
        given = {name: value for name, value in given.items() if "." not in name}
        own = {name: value for name, value in of_run.items() if name in OPTION_NAMES}
        # Before there was a choice, tied events had the order of the file, whatever the property files say today.
        return {"tied_events": "file", **given, **own, "trust_remote_code": False, "trust_checkpoint": False}


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise UserError(faults)


def _is_utf8(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name == "utf-8"
    except (LookupError, TypeError):  # reported where a file is read
        return False


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)
