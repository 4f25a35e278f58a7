"""The causal language model that scores prompts, from a transformers name or folder, or a GGUF file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from recbole_llmtrsr.llm.loading.fingerprint import model_fingerprint
from recbole_llmtrsr.llm.loading.quantized import keep_activations, quantized_loading
from recbole_llmtrsr.llm.loading.source import ModelSource

Attention = Literal["flash", "flex", "split", "cached_prefix", "plain"]


class Backbone(nn.Module):
    """A causal language model and its tokenizer.

    Args:
        lm: a transformers `*ForCausalLM`, possibly wrapped by peft.
        tokenizer: its tokenizer; if it has no padding token, the end-of-text token is used.
        name: as the user wrote it, for messages.

    Attributes:
        digest: identifies the weights that were loaded; None for the built-in backbone, which the options determine.
        attention: "plain" until `choose_attention` verifies that a faster one gives equal scores on this model.
        native_attention: the implementation that transformers chose for the model.
        is_divided: whether the frozen weights are sharded over the processes, which then gather each layer together.
        in_step: context in which processes may make different numbers of forward passes without gradients.
    """

    def __init__(self, lm: nn.Module, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        super().__init__()
        self.lm = lm
        self.tokenizer = tokenizer
        self.name = name
        self.digest: str | None = None
        self.attention: Attention = "plain"
        self.native_attention: str = self.transformer.config._attn_implementation or "eager"
        self.is_divided = False
        self.in_step: Callable[[], AbstractContextManager[None]] = nullcontext
        if tokenizer.pad_token_id is None and tokenizer.eos_token is not None:
            tokenizer.pad_token = tokenizer.eos_token

    def tokenizer_digest(self) -> str:
        """SHA-256 of the tokenizer; tokenizers that encode a text differently have different digests."""
        content = json.dumps(sorted(self.tokenizer.get_vocab().items()))
        if self.tokenizer.is_fast:
            content = self.tokenizer.backend_tokenizer.to_str()
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def transformer(self) -> PreTrainedModel:
        """The transformers model itself, without a peft wrapper (its LoRA layers stay inside)."""
        return self.lm.get_base_model() if hasattr(self.lm, "get_base_model") else self.lm  # type: ignore

    @property
    def config(self) -> PretrainedConfig:
        """The configuration of the language model, also if it is part of a multimodal one."""
        return self.transformer.config.get_text_config()

    @property
    def decoder(self) -> nn.Module:
        """The module that returns `last_hidden_state`."""
        base = self.transformer.base_model
        # In some architectures (Llama 4) the prefix does not name the body; base_model is then the whole model.
        return base if base is not self.transformer else self.transformer.model

    @property
    def output_head(self) -> nn.Module:
        """The linear layer from hidden states to vocabulary logits."""
        return self.transformer.get_output_embeddings()  # type: ignore[return-value]

    def before_head(self, states: torch.Tensor) -> torch.Tensor:
        """The input of the output head for these last hidden states; BERT-like heads transform them first. [..., H]"""
        transformer, head = self.transformer, self.output_head
        path = next((name for name, module in transformer.named_modules() if module is head), "")
        transform = getattr(transformer.get_submodule(path.rpartition(".")[0]), "transform", None)
        return transform(states) if isinstance(transform, nn.Module) else states

    @property
    def device(self) -> torch.device:
        """The device that input ids must be on."""
        return next(self.lm.parameters()).device

    @property
    def pad_id(self) -> int:
        """A padding id for which the embedding has a row; any id works, because padding is masked everywhere."""
        pad_id = self.tokenizer.pad_token_id
        return 0 if pad_id is None or pad_id >= getattr(self.config, "vocab_size", math.inf) else int(pad_id)

    @property
    def vocab_size(self) -> int:
        """Rows of the output head."""
        return int(self.transformer.get_output_embeddings().weight.shape[0])

    @property
    def is_unpacked(self) -> bool:
        """Whether each candidate is a padded row, which in training repeats the prefix (a cache has no gradients)."""
        return self.attention in ("plain", "cached_prefix")

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass. Embeddings require gradients, so that it works with LoRA, too."""
        base = self.transformer
        enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        base.enable_input_require_grads()


def load_backbone(
    name_or_folder: str,
    *,
    dtype: torch.dtype,
    trust_remote_code: bool = False,
    load_in: str | None = None,
    device: torch.device | None = None,
    n_layers: int | None = None,
) -> Backbone:
    """Load a causal language model and its tokenizer.

    Args:
        name_or_folder: a folder written by `save_pretrained`, a GGUF file, or a name on the model hub.
        dtype: of the weights.
        trust_remote_code: run the model code that comes with the weights.
        load_in: quantize linear layers, except the output head, to "8bit" or "4bit".
        device: device of quantized weights; others are loaded to the CPU.
        n_layers: number of first layers to keep; None keeps all.

    Raises:
        UserError: the folder is missing or incomplete, the hub cannot be reached, or it is not a causal language model.
    """
    quantized = quantized_loading(load_in, dtype, device or torch.device("cpu")) if load_in else None
    source = ModelSource.find("backbone", name_or_folder, trust_remote_code, n_layers)
    lm, tokenizer = source.load(dtype, quantized)
    keep_activations(lm)
    backbone = Backbone(lm, tokenizer, name_or_folder)
    backbone.digest = model_fingerprint(source.path)
    return backbone
