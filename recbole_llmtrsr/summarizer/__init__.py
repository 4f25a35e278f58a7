"""Preference summaries: how a history becomes a short text.

``plan`` lists the distinct writer calls that a paradigm (``hierarchical``, ``recurrent``) needs for all histories,
``summarize`` runs them in waves, and a writer (``extractive``, ``llm_writer``) turns items and earlier texts into text.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.settings import SummarySettings
from recbole_llmtrsr.summarizer.extractive import ExtractiveWriter
from recbole_llmtrsr.summarizer.summarize import PARADIGMS, SummaryResult, summarize
from recbole_llmtrsr.summarizer.writer import SummaryWriter

if TYPE_CHECKING:
    import torch

    from recbole_llmtrsr.prompt.templates import Templates

__all__ = ["PARADIGMS", "WRITERS", "SummaryResult", "SummaryWriter", "make_writer", "summarize"]

WRITERS: dict[str, Callable[[ItemText], SummaryWriter]] = {"extractive": ExtractiveWriter}
"""Writers that need no model, by the value of ``summarizer``; any other value names a model."""


def make_writer(
    settings: SummarySettings,
    item_text: ItemText,
    templates: Templates,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    trust_remote_code: bool = False,
) -> SummaryWriter:
    """The writer that ``summarizer`` names.

    Args:
        settings: who writes, and an LLM's batch and answer length.
        item_text: texts of the items.
        templates: wording of an LLM's prompts.
        device: where an LLM runs.
        dtype: of an LLM's weights.
        trust_remote_code: run the model code that comes with an LLM.

    Raises:
        UserError: a name that is neither a writer nor a model, or a model that cannot be loaded.
    """
    name = settings.summarizer
    if name in WRITERS:
        return WRITERS[name](item_text)
    if "/" not in name and name[:1] not in (".", "~") and not Path(name).is_dir():
        near = difflib.get_close_matches(name.lower(), WRITERS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UserError(
            f"summarizer must be {', '.join(f'{known!r}' for known in WRITERS)}, a model of the hub as"
            f" 'organisation/model', or a folder that exists, got {name!r}{hint}"
        )
    # Imported here, because transformers takes seconds to load and the extractive writer does not need it.
    from recbole_llmtrsr.llm.generation import load_generator
    from recbole_llmtrsr.summarizer.llm_writer import LLMWriter

    generator = load_generator(
        name,
        dtype=dtype,
        device=device,
        batch_size=settings.summarizer_batch_size,
        trust_remote_code=trust_remote_code,
    )
    return LLMWriter(generator, templates, settings.summarizer_max_new_tokens)
