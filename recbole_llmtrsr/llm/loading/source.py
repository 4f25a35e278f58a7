"""Loads a language model from a folder, a GGUF file or the model hub, with a message for each possible problem."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
import transformers.utils.logging as of_transformers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.loading.adapter import (
    changes_whole_model,
    has_adapter,
    how_to_merge,
    is_adapter_alone,
    merged_with_adapter,
    without_adapter,
)
from recbole_llmtrsr.llm.loading.first_layers import check_cut, cut_config
from recbole_llmtrsr.llm.loading.from_gguf import converted
from recbole_llmtrsr.llm.loading.gguf_file import gguf_file, is_gguf_name
from recbole_llmtrsr.llm.loading.weights import weights_fault
from recbole_llmtrsr.llm.tokenization.token_rows import rows_fault

HUB_TIMEOUT_SECONDS = 5.0
_WITHOUT_MODEL = {
    "backbone": "`backbone: builtin`, which needs no download",
    "summarizer": "`summarizer: extractive`, which needs no model",
    "text_encoder": "`text_encoder: tfidf`, which needs no model",
    "text_init": "`text_init: tfidf`, which needs no model",
}


@contextmanager
def _without_report() -> Iterator[None]:
    """Silence transformers' table of mismatched weights, which `weights_fault` reports in a line."""
    before = of_transformers.get_verbosity()
    of_transformers.set_verbosity_error()
    try:
        yield
    finally:
        of_transformers.set_verbosity(before)


@dataclass(frozen=True)
class ModelSource:
    """A model folder, a GGUF file, or a name that may be on the hub.

    Attributes:
        role: the option that names the model, such as 'backbone', for messages.
        name: the model's name, as the user wrote it.
        path: argument of `from_pretrained`, or the GGUF file.
        options: further arguments of `from_pretrained`.
        hub_fault: why the hub cannot be reached, if the attempt failed.
        n_layers: number of first layers to load; None loads all.
    """

    role: str
    name: str
    path: str
    options: dict[str, Any]
    hub_fault: str | None
    n_layers: int | None = None

    def __str__(self) -> str:
        return f"{self.role} {self.name!r}"

    @classmethod
    def find(cls, role: str, name: str, trust_remote_code: bool = False, n_layers: int | None = None) -> ModelSource:
        """Decide whether a name is a folder, a GGUF file or a model on the hub.

        Raises:
            UserError: the path is neither a folder nor a GGUF file, or the package of that name is not installed.
        """
        if is_gguf_name(name):
            options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
            return cls(role, name, str(gguf_file(role, name)), options, None, n_layers)
        folder = Path(os.path.expanduser(name))  # unlike Path.expanduser, leaves ~nobody as it is
        fault = None
        if not folder.is_dir():
            if folder.exists() or is_path(name):
                raise UserError(f"{role} {name!r} is not a folder: {_remedy(role)}")
            fault = hub_fault()
        local = folder.is_dir() or fault is not None
        options = {"trust_remote_code": trust_remote_code, "local_files_only": local}
        return cls(role, name, str(folder) if folder.is_dir() else name, options, fault, n_layers)

    def load_tokenizer(self, causal: bool = True) -> tuple[Any, PreTrainedTokenizerBase]:
        """Config and tokenizer, without the weights.

        Raises:
            UserError: the folder is incomplete, the hub cannot be reached, or, if ``causal``, it is not a causal
                language model.
        """
        if is_gguf_name(self.path):
            return self._as_folder().load_tokenizer(causal)
        if is_adapter_alone(self.path):
            raise UserError(f"{self} is an adapter, not a whole model: {how_to_merge(self.path)}")
        if os.path.isdir(self.path) and not os.path.isfile(os.path.join(self.path, "config.json")):
            if is_gguf_name(self.name):
                raise UserError(self._fault("config", FileNotFoundError("config.json is missing")))
            raise UserError(f"{self} has no config.json: {_remedy(self.role)}")
        what = "config"
        try:
            config = AutoConfig.from_pretrained(self.path, **self.options)
            if causal:
                self._require_causal_lm(config)
            self._require_tokenizer_file()
            what = "tokenizer"
            tokenizer = AutoTokenizer.from_pretrained(self.path, **self.options)
        except UserError:
            raise
        except Exception as error:  # transformers raises nearly every kind for a missing or damaged file
            raise UserError(self._fault(what, error)) from error
        whole = deepcopy(config)
        cut_config(config, self.n_layers, str(self))
        if self.n_layers is not None:
            check_cut(whole, config, str(self), trust_remote_code=self.options["trust_remote_code"])
        n_rows = getattr(config.get_text_config(), "vocab_size", None)
        self._require_rows(tokenizer, n_rows)
        if n_rows is not None and len(tokenizer) < n_rows / 2:
            _warn_once(
                f"{self}: its tokenizer has {len(tokenizer):,} tokens, but the model has {n_rows:,}"
                " embedding rows: check that the tokenizer belongs to the model"
            )
        return config, tokenizer

    def load(
        self, dtype: torch.dtype, quantized: Mapping[str, Any] | None = None
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Model and tokenizer; errors as for ``load_tokenizer``, and damaged weights.

        Args:
            dtype: of the weights.
            quantized: from ``quantized_loading``.
        """
        if is_gguf_name(self.path):
            return self._as_folder(dtype).load(dtype, quantized)
        config, tokenizer = self.load_tokenizer()
        is_quantized = getattr(config, "quantization_config", None) is not None
        if quantized and is_quantized:
            raise UserError(f"{self} is already quantized: set load_in: ~ to use it unchanged")
        if has_adapter(self.path) and (quantized or is_quantized):
            raise UserError(
                f"{self} holds an adapter, which cannot be merged into quantized weights without"
                f" loss: {how_to_merge(self.path)}"
            )
        lm = self._load_weights(AutoModelForCausalLM, dtype, config=config, **(quantized or {}))
        self._require_rows(tokenizer, len(lm.get_input_embeddings().weight))
        return lm, tokenizer

    def check_names(self, config: PretrainedConfig, dtype: torch.dtype) -> None:
        """Refuse a folder whose weights do not fit the architecture; reads only their names, or converts a GGUF file.

        Raises:
            UserError: as for ``load``, if weights are missing or unexpected.
        """
        if is_gguf_name(self.path):
            self._as_folder(dtype)
        if not os.path.isdir(self.path) or getattr(config, "quantization_config", None) is not None:
            return
        try:
            with without_adapter(self.path) as path, _without_report():
                model, loading = AutoModelForCausalLM.from_pretrained(
                    path, config=config, device_map="meta", output_loading_info=True, **self.options
                )
        except Exception:  # ``load`` reports problems of the files
            return
        self._require_weights(weights_fault(model, loading, is_cut=self.n_layers is not None))

    def load_encoder(self, dtype: torch.dtype) -> PreTrainedModel:
        """The body of a model without its head, or the encoder of an encoder-decoder; errors as for ``load``."""
        if is_gguf_name(self.path):
            return self._as_folder(dtype).load_encoder(dtype)
        if changes_whole_model(self.path):
            return self._load_weights(AutoModelForCausalLM, dtype).base_model  # type: ignore[return-value]
        return _reader(self._load_weights(AutoModel, dtype, only_reader=True))

    def _as_folder(self, dtype: torch.dtype | None = None) -> ModelSource:
        """The GGUF file converted into a folder, with weights in a number format or without weights."""
        return replace(self, path=str(converted(Path(self.path), str(self), dtype)))

    def _load_weights(
        self, auto: type[AutoModel], dtype: torch.dtype, only_reader: bool = False, **options: Any
    ) -> PreTrainedModel:
        what = "weights"
        try:
            with without_adapter(self.path) as path, _without_report():
                model, loading = auto.from_pretrained(
                    path, dtype=dtype, output_loading_info=True, **self.options, **options
                )
            what = "adapter"
            is_quantized = getattr(model.config, "quantization_config", None) is not None
            if only_reader:  # a file of an encoder alone lacks the decoder, which is not used
                read = {id(weight) for weight in _reader(model).state_dict(keep_vars=True).values()}
                keys = {key for key, weight in model.state_dict(keep_vars=True).items() if id(weight) in read}
                loading["missing_keys"] = keys.intersection(loading["missing_keys"])
            fault = weights_fault(
                model,
                loading,
                saved_quantized=is_quantized and "quantization_config" not in options,
                is_cut=self.n_layers is not None,
            )
            if fault is None and has_adapter(self.path):
                model = merged_with_adapter(model, self.path, is_cut=self.n_layers is not None)
        except Exception as error:
            raise UserError(self._fault(what, error)) from error
        if fault is None and getattr(model, "_hf_peft_config_loaded", False):
            fault = "it holds an adapter: download it into a folder and use that folder, so that the adapter is merged"
        self._require_weights(fault)
        return model  # type: ignore[no-any-return]

    def _require_weights(self, fault: str | None) -> None:
        if fault is not None:
            raise UserError(f"{self}: {fault}; or {_WITHOUT_MODEL[self.role]}")

    def _require_rows(self, tokenizer: PreTrainedTokenizerBase, n_rows: int | None) -> None:
        """Refuse a tokenizer with tokens that may occur in texts but have no row in the embedding."""
        fault = None if n_rows is None else rows_fault(tokenizer, n_rows)
        if fault is not None:
            raise UserError(f"{self}: {fault}")

    def _require_tokenizer_file(self) -> None:
        if os.path.isdir(self.path) and not any(
            "token" in entry or entry.startswith(("vocab", "merges", "spiece")) for entry in os.listdir(self.path)
        ):
            raise UserError(f"{self} has no tokenizer: save it there with `tokenizer.save_pretrained({self.name!r})`")

    def _require_causal_lm(self, config: PretrainedConfig) -> None:
        """Refuse encoders and headless checkpoints, which AutoModelForCausalLM would load with a random head."""
        architectures = set(getattr(config, "architectures", None) or ())
        mapped = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
        known = {name for value in mapped for name in ((value,) if isinstance(value, str) else value)}
        remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
        if architectures and not remote and not architectures & known:
            raise UserError(
                f"{self} is {', '.join(sorted(architectures))}, not a causal language model: choose"
                f" one whose architecture ends in ForCausalLM or LMHeadModel, or {_WITHOUT_MODEL[self.role]}"
            )

    def _fault(self, what: str, error: Exception) -> str:
        remedy = _remedy(self.role)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "trust_remote_code" in str(error):
            return f"{self} comes with Python code: set `trust_remote_code: True` if you trust its origin"
        if is_gguf_name(self.name):
            return (
                f"{self}: its {what} cannot be loaded from {self.path} ({reason}): delete that folder, so that the file"
                " is converted again"
            )
        if os.path.isdir(self.path):
            return f"{self}: its {what} cannot be loaded ({reason}): {remedy}"
        if self.hub_fault:
            return f"{self} is neither a folder nor in the local cache, and {self.hub_fault}: {remedy}"
        return f"{self}: its {what} cannot be loaded from the model hub ({reason}): check the name, or {remedy}"


def _reader(model: PreTrainedModel) -> PreTrainedModel:
    """The part that encodes texts: the encoder of an encoder-decoder, otherwise the whole model."""
    has_both = isinstance(getattr(model, "encoder", None), torch.nn.Module) and hasattr(model, "decoder")
    return model.get_encoder() if has_both or model.config.is_encoder_decoder else model


def is_hub_name(name: str) -> bool:
    """Whether a name is neither a local folder nor a GGUF file and therefore refers to the model hub."""
    return not os.path.isdir(os.path.expanduser(name)) and not is_path(name) and not is_gguf_name(name)


def is_path(name: str) -> bool:
    """Whether a name can only be a folder: hub names are 'model' or 'organisation/model'."""
    return Path(name).is_absolute() or name[:1] in (".", "~") or name.count("/") > 1


def hub_fault() -> str | None:
    """Why the model hub cannot be reached, or None. One attempt, as transformers would retry for every file."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_SECONDS)
    except Exception as error:  # the HTTP library behind it differs between versions, and so do its exceptions
        return f"{constants.ENDPOINT} cannot be reached ({error})"
    return None


@cache
def _warn_once(message: str) -> None:
    getLogger().warning(message)


def _remedy(role: str) -> str:
    return f"use a folder that holds model and tokenizer, or {_WITHOUT_MODEL[role]}"
