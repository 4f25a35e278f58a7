"""The stand-in for a backbone whose model is behind a server."""

from __future__ import annotations

from contextlib import nullcontext

from torch import nn
from transformers import PretrainedConfig

from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.llm.tokenization.text_pieces import TextPieces


class ServedBackbone(Backbone):
    """A backbone without weights, whose tokenizer splits texts into pieces of a few bytes; it cannot compute anything.

    Args:
        name: of the server's model, for messages.
        tokenizer: splits the texts of prompts.
    """

    def __init__(self, name: str, tokenizer: TextPieces) -> None:
        nn.Module.__init__(self)  # the base class reads a model
        self.lm, self.tokenizer, self.name = nn.Identity(), tokenizer, name
        self.digest = None
        self.attention = "plain"
        self.is_divided, self.in_step = False, nullcontext

    @property
    def config(self) -> PretrainedConfig:
        """An empty configuration."""
        return PretrainedConfig()
