"""The two summarization paradigms of LLM-TRSR, which turn the blocks of a history into a preference summary.

    hierarchical    s_k = write(block k)                                   summary = write(s_1, ..., s_K)
    recurrent       s_1 = write(block 1),  s_k = write(s_{k-1}, block k)   summary = s_K

In the code, a call is ``write(kind, block, inputs)``, where ``block`` is a sequence of items and ``inputs`` are the
earlier texts that the call reads.

The paper compares hierarchical summarization to a convolutional network and recurrent summarization to a recurrent one.
Both functions accept any ``write`` function. If it writes texts, they return the summary. If it records each call and
returns the call's number, they build the plan of a run (see ``planning``), in which all histories share equal calls.

Source: Zheng et al. (WWW 2024), hierarchical and recurrent summarization of a user's preferences.

Three options deviate from the paper: ``merge_fan_in`` and ``max_depth`` allow more than two levels of merges,
``max_blocks`` can keep all blocks rather than the last five, and ``summarize_remainder`` can leave an unfinished block
to the recent items. The paper does not define two cases. If a history has one block, the summary of that block is the
preference summary, without a merge. If it has no block, there is no summary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from recbole_llmtrsr.summarizer.jobs import Kind

Item = TypeVar("Item")
Block = TypeVar("Block")
BlockRead = TypeVar("BlockRead", contravariant=True)
Text = TypeVar("Text")
Levels = tuple[tuple[Text, ...], ...]  # texts to be merged, by level; the lowest level holds the blocks' summaries


class Write(Protocol[BlockRead, Text]):
    """Function that writes one text: summarizes a block, updates an earlier text with a block, or merges texts."""

    def __call__(self, kind: Kind, block: BlockRead | None = None, inputs: tuple[Text, ...] = ()) -> Text:
        """Return the text of a call. A merge reads no block; ``inputs`` are ordered from the oldest."""
        ...


def blocks_of(
    history: Sequence[Item], block_size: int = 5, max_blocks: int | None = None, with_remainder: bool = True
) -> list[Sequence[Item]]:
    """Split a history into blocks of ``block_size`` items, oldest first; the last block can be shorter.

    >>> blocks_of("ABCDEFG", block_size=2)
    ['AB', 'CD', 'EF', 'G']
    >>> blocks_of("ABCDEFG", block_size=2, max_blocks=2, with_remainder=False)
    ['CD', 'EF']

    Args:
        history: items, oldest first.
        block_size: number of items per block (paper: 5).
        max_blocks: number of most recent blocks to keep (paper: 5); None keeps all.
        with_remainder: whether to keep a shorter last block, as the paper does.

    Returns:
        The blocks, oldest first.
    """
    end = len(history) if with_remainder else len(history) // block_size * block_size
    blocks = [history[start : start + block_size] for start in range(0, end, block_size)]
    return blocks if max_blocks is None else blocks[-max_blocks:]


def recurrent(blocks: Iterable[Block], write: Write[Block, Text], summary: Text | None = None) -> Text | None:
    """Summarize the first block, then update the summary with each further block.

    >>> def echo(kind, block="", inputs=()):
    ...     return f"{kind}({', '.join([*inputs, *block])})"
    >>> recurrent(blocks_of(["Heat", "Big", "Antz"], block_size=2), echo)
    'update(block(Heat, Big), Antz)'
    >>> recurrent(["AB", "CD", "E"], echo)
    'update(update(block(A, B), C, D), E)'
    >>> recurrent(["AB"], echo), recurrent([], echo)
    ('block(A, B)', None)

    Args:
        blocks: the blocks of a history, oldest first.
        write: function that writes each text.
        summary: summary of earlier blocks to continue from, if any.

    Returns:
        The summary, or None if there is neither a block nor an earlier summary.
    """
    for block in blocks:
        summary = write("block", block) if summary is None else write("update", block, (summary,))
    return summary


def hierarchical(
    blocks: Iterable[Block], write: Write[Block, Text], fan_in: int | None = None, max_depth: int | None = None
) -> Text | None:
    """Summarize each block independently, then merge the blocks' summaries.

    >>> def echo(kind, block="", inputs=()):
    ...     return f"{kind}({', '.join([*inputs, *block])})"
    >>> hierarchical(["AB", "CD", "E"], echo)
    'merge(block(A, B), block(C, D), block(E))'
    >>> hierarchical(["AB"], echo), hierarchical([], echo)
    ('block(A, B)', None)
    >>> hierarchical("ABCDE", echo, fan_in=2)
    'merge(merge(merge(block(A), block(B)), merge(block(C), block(D))), block(E))'
    >>> hierarchical("ABCDE", echo, fan_in=2, max_depth=3)
    'merge(merge(block(A), block(B)), merge(block(C), block(D)), block(E))'

    Args:
        blocks: the blocks of a history, oldest first.
        write: function that writes each text.
        fan_in: number of texts per merge. Each level is divided into groups from the oldest text on, and a text that is
            alone in its group moves up unchanged. None merges all texts at once, as the paper does.
        max_depth: maximum number of levels, including that of the blocks' summaries; the topmost merge takes all
            remaining texts.

    Returns:
        The summary, or None if there is no block.
    """
    return merge_levels(summarize_blocks(blocks, write, ((),), fan_in, max_depth), write)


def summarize_blocks(
    blocks: Iterable[Block],
    write: Write[Block, Text],
    levels: Levels[Text] = ((),),
    fan_in: int | None = None,
    max_depth: int | None = None,
) -> Levels[Text]:
    """Add each block's summary to ``levels`` and merge each full group, which all longer histories share."""
    for block in blocks:
        levels = _add(write("block", block), levels, write, fan_in, max_depth)
    return levels


def merge_levels(levels: Levels[Text], write: Write[Block, Text]) -> Text | None:
    """Merge the remaining texts level by level into one; return None if there are no texts."""
    merged: tuple[Text, ...] = ()
    for level in levels:
        group = level + merged
        merged = (write("merge", inputs=group),) if len(group) > 1 else group
    return merged[0] if merged else None


def _add(
    text: Text, levels: Levels[Text], write: Write[Block, Text], fan_in: int | None, max_depth: int | None
) -> Levels[Text]:
    """Add a text to the lowest level; merge a full group into the level above, unless the level is the topmost."""
    group, above = (*levels[0], text), levels[1:]
    if len(group) != fan_in or max_depth == 2:
        return group, *above
    depth_above = None if max_depth is None else max_depth - 1
    return (), *_add(write("merge", inputs=group), above or ((),), write, fan_in, depth_above)
