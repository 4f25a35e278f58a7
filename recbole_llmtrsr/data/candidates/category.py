"""Categories of items, for negatives of the target's category."""

from __future__ import annotations

import numpy as np

from recbole_llmtrsr.config.candidate_modes import CandidateMode
from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.candidates.split_rows import Ids
from recbole_llmtrsr.data.catalogue_text import item_file
from recbole_llmtrsr.data.item_text import check_coverage, read_item_text
from recbole_llmtrsr.data.tokens import Tokens, as_tokens, ranked
from recbole_llmtrsr.errors import UserError


def category_numbers(config: Config, mode: CandidateMode, item_tokens: Tokens) -> Ids:
    """A number for each item's category, the whole value of ``candidate_category``; -1 for an empty one. [n_items]

    Args:
        config: our Config.
        mode: for messages.
        item_tokens: of the catalogue. [n_items]

    Raises:
        UserError: no .item file, no such column in it, or a category of nearly no item.
    """
    path = item_file(config)
    column = config.settings.evaluation.candidate_category
    # All columns: a fault should name this option and what the file has.
    text = read_item_text(
        path, config["ITEM_ID_FIELD"], separator=config["field_separator"], encoding=config["encoding"] or "utf-8"
    )
    if column not in text.columns:
        raise UserError(
            f"eval_args mode '{mode.text}' needs the column '{column}' of {path}, which has"
            f" {', '.join(text.columns)}: set candidate_category to one of these"
        )
    tokens = item_tokens.tolist()
    values = [dict(text[token].fields).get(column, "") for token in tokens]
    named = dict(zip(tokens[1:], values[1:], strict=True))  # 0 is the padding
    without = [token for token, value in named.items() if not value]
    check_coverage(text, [*named], without, f"a category ({column})", "candidate_category")
    names, numbers = ranked(as_tokens(values))
    return np.where(names[numbers] == "", -1, numbers)
