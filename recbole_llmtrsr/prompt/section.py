"""One section of a prompt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PromptSection:
    """One section of a prompt, as the model reads it.

    Attributes:
        name: 'instruction', 'summary header', 'summary', 'recent header', 'recent items', 'candidate header',
            'candidate' or 'answer slot'.
        ids: its tokens.
        text: its tokens as text.
        limit: most tokens it may take; None where nothing is ever cut.
        tokens_cut: tokens that were cut from the end of a summary, or of a candidate given by hand.
        items: the recent items or the candidate that it shows.
        items_left_out: recent items that it has no room for, oldest first.
        items_cut: tokens that were cut from the ends of its items, by item id.
    """

    name: str
    ids: tuple[int, ...]
    text: str
    limit: int | None = None
    tokens_cut: int = 0
    items: tuple[int, ...] = ()
    items_left_out: tuple[int, ...] = ()
    items_cut: tuple[tuple[int, int], ...] = ()
