"""Bound on the tokens of a forward pass, which is lowered when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache

from recbole_llmtrsr.errors import UserError

logger = logging.getLogger(__name__)

# On a CPU, larger passes exceed its caches without a gain; a GPU needs larger ones to be well utilized.
_DEFAULTS = {"cpu": 4096}
_DEFAULT_ELSEWHERE = 32768


class TokenBudget:
    """Bound on the tokens of a forward pass, halved whenever memory runs out.

    Args:
        max_tokens: the initial bound; None selects the device's default.
        device: the backbone's device.
        stage: 'training' or 'evaluation', for messages.

    Attributes:
        halved: number of times that the bound was halved.
    """

    def __init__(self, max_tokens: int | None, device: torch.device, stage: str) -> None:
        self.max_tokens = max_tokens or _DEFAULTS.get(device.type, _DEFAULT_ELSEWHERE)
        self.halved = 0
        self._stage = stage

    def state(self) -> dict[str, Any]:
        """Return the bound and how often it was halved, as plain values."""
        return {"max_tokens": self.max_tokens, "halved": self.halved}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state()` returned."""
        self.max_tokens, self.halved = state["max_tokens"], state["halved"]

    def halve(self, tried: int, least: int) -> None:
        """Halve the number of tokens that failed; raise UserError if it was the smallest possible one, `least`."""
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
            f"{self._stage} is out of memory with {tried} tokens at a time: continuing with {self.max_tokens} (set"
            f" max_tokens_per_batch: {self.max_tokens})"
        )
