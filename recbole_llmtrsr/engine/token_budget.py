"""How many tokens a forward pass may have, learned downwards when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache

from recbole_llmtrsr.errors import UserError

logger = logging.getLogger(__name__)

# On a CPU more tokens at a time leave its caches and gain nothing; a GPU must be given enough to do.
_DEFAULTS = {"cpu": 4096}
_DEFAULT_ELSEWHERE = 32768


class TokenBudget:
    """A bound that is halved whenever memory runs out.

    Args:
        max_tokens: the initial bound; None takes the device's default.
        device: of the backbone.
        stage: 'training' or 'evaluation', for messages.

    Attributes:
        halved: how often memory ran out.
    """

    def __init__(self, max_tokens: int | None, device: torch.device, stage: str) -> None:
        self.max_tokens = max_tokens or _DEFAULTS.get(device.type, _DEFAULT_ELSEWHERE)
        self.halved = 0
        self._stage = stage

    def state(self) -> dict[str, Any]:
        """The bound and how often it was halved, as plain values."""
        return {"max_tokens": self.max_tokens, "halved": self.halved}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state()` returned."""
        self.max_tokens, self.halved = state["max_tokens"], state["halved"]

    def halve(self, tried: int, least: int) -> None:
        """Halve the tokens of the pass that failed; a UserError if it was the smallest possible, of `least` tokens."""
        tried = min(tried, max(self.max_tokens, least))
        if tried <= least:
            raise UserError(
                f"{self._stage} is out of memory with {least} tokens, which cannot be divided: lower max_prompt_tokens,"
                " choose a smaller backbone, or set precision: bf16, load_in: 4bit"
                + (", gradient_checkpointing: True or fewer negatives" if self._stage == "training" else "")
            )
        self.max_tokens = max(1, tried // 2)
        self.halved += 1
        clear_device_cache(garbage_collection=True)
        logger.warning(
            f"{self._stage} is out of memory with {tried} tokens at a time: going on with {self.max_tokens} (set"
            f" max_tokens_per_batch: {self.max_tokens})"
        )
