"""Where a causal language model comes from: a folder or a name on the model hub, and what may be wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from recbole_llmtrsr.errors import UserError

HUB_TIMEOUT_SECONDS = 5.0
_WITHOUT_MODEL = {
    "backbone": "`backbone: builtin`, which needs no download",
    "summarizer": "`summarizer: extractive`, which needs no model",
    "text_encoder": "`text_encoder: tfidf`, which needs no model",
    "text_init": "`text_init: tfidf`, which needs no model",
}


@dataclass(frozen=True)
class ModelSource:
    """A model that was found, or may be found on the hub.

    Attributes:
        role: the option that names it, such as 'backbone'; messages speak of it.
        name: what the user wrote.
        path: what transformers is given.
        hub_fault: why the hub cannot be asked, if it was.
    """

    role: str
    name: str
    path: str
    options: dict[str, Any]
    hub_fault: str | None

    @classmethod
    def find(cls, role: str, name: str, trust_remote_code: bool = False) -> ModelSource:
        """Decide whether a name means a folder or a model on the hub.

        Raises:
            UserError: it means a folder, and there is none.
        """
        folder = Path(os.path.expanduser(name))  # unlike Path.expanduser, leaves ~nobody as it is
        fault = None
        if not folder.is_dir():
            if folder.exists() or is_path(name):
                raise UserError(f"{role} {name!r} is not a folder: {_remedy(role)}")
            fault = hub_fault()
        local = folder.is_dir() or fault is not None
        options = {"trust_remote_code": trust_remote_code, "local_files_only": local}
        return cls(role, name, str(folder) if folder.is_dir() else name, options, fault)

    def load_tokenizer(self, causal: bool = True) -> tuple[Any, PreTrainedTokenizerBase]:
        """Config and tokenizer, without the weights.

        Args:
            causal: it must be a causal language model.

        Raises:
            UserError: the folder is incomplete, the hub does not give them, or it is no causal language model.
        """
        if os.path.isdir(self.path) and not os.path.isfile(os.path.join(self.path, "config.json")):
            raise UserError(f"{self.role} {self.name!r} has no config.json: {_remedy(self.role)}")
        what = "config"
        try:
            config = AutoConfig.from_pretrained(self.path, **self.options)
            if causal:
                self._require_causal_lm(config)
            self._require_tokenizer_file()
            what = "tokenizer"
            return config, AutoTokenizer.from_pretrained(self.path, **self.options)
        except UserError:
            raise
        except Exception as error:  # transformers raises nearly every kind for a missing or damaged file
            raise UserError(self._fault(what, error)) from error

    def load(
        self, dtype: torch.dtype, quantized: Mapping[str, Any] | None = None
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Model and tokenizer; errors as for ``load_tokenizer``, and damaged weights.

        Args:
            dtype: of the weights.
            quantized: further arguments of `from_pretrained`, from ``quantized_loading``.
        """
        config, tokenizer = self.load_tokenizer()
        if quantized and getattr(config, "quantization_config", None) is not None:
            raise UserError(f"{self.role} {self.name!r} is quantized already: set load_in: ~ to use it as it is")
        options = {**self.options, **(quantized or {})}
        try:
            lm = AutoModelForCausalLM.from_pretrained(self.path, config=config, dtype=dtype, **options)
        except Exception as error:
            raise UserError(self._fault("weights", error)) from error
        return lm, tokenizer

    def load_encoder(self, dtype: torch.dtype) -> PreTrainedModel:
        """The body of any model, an encoder or a decoder; errors as for ``load``.

        Args:
            dtype: of the weights.
        """
        try:
            model: PreTrainedModel = AutoModel.from_pretrained(self.path, dtype=dtype, **self.options)
        except Exception as error:
            raise UserError(self._fault("weights", error)) from error
        return model

    def _require_tokenizer_file(self) -> None:
        if os.path.isdir(self.path) and not any(
            "token" in entry or entry.startswith(("vocab", "merges", "spiece")) for entry in os.listdir(self.path)
        ):
            raise UserError(
                f"{self.role} {self.name!r} has no tokenizer: save it there with"
                f" `tokenizer.save_pretrained({self.name!r})`"
            )

    def _require_causal_lm(self, config: Any) -> None:
        """Refuse encoders and headless checkpoints, which AutoModelForCausalLM would take with a random head."""
        architectures = set(getattr(config, "architectures", None) or ())
        known: set[str] = set()
        for value in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
            known.update((value,) if isinstance(value, str) else value)
        remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
        if architectures and not remote and not architectures & known:
            raise UserError(
                f"{self.role} {self.name!r} is {', '.join(sorted(architectures))}, not a causal language model: choose"
                f" one whose architecture ends in ForCausalLM or LMHeadModel, or {_WITHOUT_MODEL[self.role]}"
            )

    def _fault(self, what: str, error: Exception) -> str:
        name, remedy = f"{self.role} {self.name!r}", _remedy(self.role)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "trust_remote_code" in str(error):
            return f"{name} brings its own code: set `trust_remote_code: True` if you trust it"
        if os.path.isdir(self.path):
            return f"{name}: its {what} cannot be loaded ({reason}): {remedy}"
        if self.hub_fault:
            return f"{name} is neither a folder nor in the local cache, and {self.hub_fault}: {remedy}"
        return f"{name}: the model hub does not give its {what} ({reason}): check the name, or {remedy}"


def is_hub_name(name: str) -> bool:
    """Whether a name is no folder here, so that the model hub is asked for it."""
    return not os.path.isdir(os.path.expanduser(name)) and not is_path(name)


def is_path(name: str) -> bool:
    """Whether a name can only mean a folder: hub names are 'model' or 'organisation/model'."""
    return Path(name).is_absolute() or name[:1] in (".", "~") or name.count("/") > 1


def hub_fault() -> str | None:
    """Why the model hub cannot be reached, or None; asked once, because transformers retries every file for long."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_SECONDS)
    except Exception as error:  # the HTTP library behind it differs between versions, and so do its exceptions
        return f"{constants.ENDPOINT} cannot be reached ({error})"
    return None


def _remedy(role: str) -> str:
    return f"give a folder that holds model and tokenizer, or {_WITHOUT_MODEL[role]}"
