"""The causal language model that scores prompts, from a transformers name or folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from recbole_llmtrsr.errors import UserError

HUB_TIMEOUT_SECONDS = 5.0
_REMEDY = "give a folder that holds the model, or `backbone: builtin`, which needs no download"


class Backbone(nn.Module):
    """A causal language model and its tokenizer.

    Args:
        lm: a transformers `*ForCausalLM`, possibly wrapped by peft.
        tokenizer: its tokenizer; one without a pad token gets the end-of-text token as such.
        name: what the user called it, for messages.

    `attention` is "plain" until `probe` has shown that shared-prefix scores equal plain ones on this very model.
    """

    def __init__(self, lm: nn.Module, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        super().__init__()
        self.lm = lm
        self.tokenizer = tokenizer
        self.name = name
        self.attention: Literal["shared_prefix", "plain"] = "plain"
        if tokenizer.pad_token_id is None and tokenizer.eos_token is not None:
            tokenizer.pad_token = tokenizer.eos_token

    @property
    def transformer(self) -> PreTrainedModel:
        """The transformers model itself, without a peft wrapper (its LoRA layers stay inside)."""
        return self.lm.get_base_model() if hasattr(self.lm, "get_base_model") else self.lm  # type: ignore

    @property
    def decoder(self) -> nn.Module:
        """The module that returns `last_hidden_state`."""
        base = self.transformer.base_model
        # Some architectures (Llama 4) do not name their body by their own prefix; base_model is then the whole model.
        return base if base is not self.transformer else self.transformer.model

    @property
    def output_head(self) -> nn.Module:
        """The linear layer from hidden states to vocabulary logits."""
        return self.transformer.get_output_embeddings()  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        """Where input ids must be."""
        return next(self.lm.parameters()).device

    @property
    def pad_id(self) -> int:
        """An id for padding; masked everywhere, so any will do."""
        pad_id = self.tokenizer.pad_token_id
        return 0 if pad_id is None else int(pad_id)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass; embeddings require gradients, so a frozen base works too."""
        base = self.transformer
        enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        base.enable_input_require_grads()


def load_backbone(name_or_folder: str, *, dtype: torch.dtype, trust_remote_code: bool = False) -> Backbone:
    """Load a causal language model and its tokenizer.

    Args:
        name_or_folder: a folder written by `save_pretrained`, or a name on the model hub.
        dtype: of the weights.
        trust_remote_code: run the model code that comes with the weights.

    Raises:
        UserError: no such folder, an incomplete one, an unreachable hub, or not a causal language model.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return _load(name_or_folder, str(folder), dtype, trust_remote_code, local_files_only=True, hub_fault=None)
    if folder.is_absolute() or folder.exists() or name_or_folder[:1] in ".~" or name_or_folder.count("/") > 1:
        raise UserError(f"backbone {name_or_folder!r} is not a folder: {_REMEDY}")
    fault = hub_fault()
    return _load(
        name_or_folder, name_or_folder, dtype, trust_remote_code, local_files_only=bool(fault), hub_fault=fault
    )


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


def _load(
    name: str, source: str, dtype: torch.dtype, trust: bool, local_files_only: bool, hub_fault: str | None
) -> Backbone:
    options: dict[str, Any] = {"trust_remote_code": trust, "local_files_only": local_files_only}
    if os.path.isdir(source) and not os.path.isfile(os.path.join(source, "config.json")):
        raise UserError(f"backbone {name!r} has no config.json: {_REMEDY}")
    what = "config"
    try:
        config = AutoConfig.from_pretrained(source, **options)
        _require_causal_lm(name, config)
        _require_tokenizer(name, source)
        what = "tokenizer"
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        what = "weights"
        lm = AutoModelForCausalLM.from_pretrained(source, config=config, dtype=dtype, **options)
    except UserError:
        raise
    except Exception as error:  # transformers raises nearly every kind for a missing or damaged file
        raise UserError(_load_fault(name, source, what, error, hub_fault)) from error
    return Backbone(lm, tokenizer, name)


def _require_tokenizer(name: str, source: str) -> None:
    if os.path.isdir(source) and not any(
        "token" in entry or entry.startswith(("vocab", "merges", "spiece")) for entry in os.listdir(source)
    ):
        raise UserError(f"backbone {name!r} has no tokenizer: save it there with `tokenizer.save_pretrained({name!r})`")


def _require_causal_lm(name: str, config: Any) -> None:
    """Refuse encoders and headless checkpoints, which AutoModelForCausalLM would take with a random head."""
    architectures = set(getattr(config, "architectures", None) or ())
    known: set[str] = set()
    for value in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        known.update((value,) if isinstance(value, str) else value)
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if architectures and not remote and not architectures & known:
        raise UserError(
            f"backbone {name!r} is {', '.join(sorted(architectures))}, not a causal language model: "
            "choose one whose architecture ends in ForCausalLM or LMHeadModel, or `backbone: builtin`"
        )


def _load_fault(name: str, source: str, what: str, error: Exception, hub_fault: str | None) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "trust_remote_code" in str(error):
        return f"backbone {name!r} brings its own code: set `trust_remote_code: True` if you trust it"
    if os.path.isdir(source):
        return f"backbone {name!r}: its {what} cannot be loaded ({reason}): {_REMEDY}"
    if hub_fault:
        return f"backbone {name!r} is neither a folder nor in the local cache, and {hub_fault}: {_REMEDY}"
    return f"backbone {name!r}: the model hub does not give its {what} ({reason}): check the name, or {_REMEDY}"
