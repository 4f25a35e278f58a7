"""From the blocks of a history to its preference summary: the two paradigms of LLM-TRSR.

    hierarchical    s_k = write(block k)                                   summary = write(s_1, ..., s_K)
    recurrent       s_1 = write(block 1),  s_k = write(s_{k-1}, block k)   summary = s_K

In the code a call is ``write(kind, block, inputs)``: the block, a sequence of items, and the earlier texts it reads.

The paper likens the first to a convolutional, the second to a recurrent network. Both functions take any ``write``.
One that writes texts gives the summary. One that notes each call and returns its number gives the plan of a run
(``planning``), in which all histories share equal calls.

Source: Zheng et al. (WWW 2024), hierarchical and recurrent summarization of a user's preferences.

Deviations, each an option: more than two levels of merges (``merge_fan_in``, ``max_depth``), all blocks rather than the
last five (``max_blocks``), an unfinished block that is left to the recent items (``summarize_remainder``). The paper
leaves two cases open. One block: its summary is the preference summary, without a merge. No block: there is no summary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from recbole_llmtrsr.summarizer.jobs import Kind

Item = TypeVar("Item")
Block = TypeVar("Block")
BlockRead = TypeVar("BlockRead", contravariant=True)
Text = TypeVar("Text")
Levels = tuple[tuple[Text, ...], ...]  # texts that wait for their merge, by level; the lowest holds blocks' summaries


class Write(Protocol[BlockRead, Text]):
    """Writes one text: the summary of a block, an earlier text updated by a block, or the merge of earlier texts."""

    def __call__(self, kind: Kind, block: BlockRead | None = None, inputs: tuple[Text, ...] = ()) -> Text:
        """The text of a call; a merge reads no block, and inputs are oldest first."""
        ...


def blocks_of(
    history: Sequence[Item], block_size: int = 5, max_blocks: int | None = None, with_remainder: bool = True
) -> list[Sequence[Item]]:
    """Cut a history into blocks of ``block_size`` items, oldest first; the last one may be short.

    >>> blocks_of("ABCDEFG", block_size=2)
    ['AB', 'CD', 'EF', 'G']
    >>> blocks_of("ABCDEFG", block_size=2, max_blocks=2, with_remainder=False)
    ['CD', 'EF']

    Args:
        history: items, oldest first.
        block_size: items per block (paper: 5).
        max_blocks: keep the most recent blocks only (paper: 5); None keeps all.
        with_remainder: keep the short last block (paper).
    """
    end = len(history) if with_remainder else len(history) // block_size * block_size
    blocks = [history[start : start + block_size] for start in range(0, end, block_size)]
    return blocks if max_blocks is None else blocks[-max_blocks:]


def recurrent(blocks: Iterable[Block], write: Write[Block, Text], summary: Text | None = None) -> Text | None:
    """Fold the summary over the blocks: each block updates it.

    >>> def echo(kind, block="", inputs=()):
    ...     return f"{kind}({', '.join([*inputs, *block])})"
    >>> recurrent(blocks_of(["Heat", "Big", "Antz"], block_size=2), echo)
    'update(block(Heat, Big), Antz)'
    >>> recurrent(["AB", "CD", "E"], echo)
    'update(update(block(A, B), C, D), E)'
    >>> recurrent(["AB"], echo), recurrent([], echo)
    ('block(A, B)', None)

    Args:
        blocks: oldest first.
        write: makes a text.
        summary: of earlier blocks, to go on from.

    Returns:
        The summary; None where there is no block.
    """
    for block in blocks:
        summary = write("block", block) if summary is None else write("update", block, (summary,))
    return summary


def hierarchical(
    blocks: Iterable[Block], write: Write[Block, Text], fan_in: int | None = None, max_depth: int | None = None
) -> Text | None:
    """Summarize each block on its own, then merge the blocks' summaries.

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
        blocks: oldest first.
        write: makes a text.
        fan_in: texts per merge, in groups counted from the oldest, level upon level; None merges all at once (paper).
            A text that is alone in its group goes up as it is.
        max_depth: most levels of texts, the blocks' included; the topmost merge takes all that is left.

    Returns:
        The summary; None where there is no block.
    """
    return merge_levels(summarize_blocks(blocks, write, ((),), fan_in, max_depth), write)


def summarize_blocks(
    blocks: Iterable[Block],
    write: Write[Block, Text],
    levels: Levels[Text] = ((),),
    fan_in: int | None = None,
    max_depth: int | None = None,
) -> Levels[Text]:
    """Summarize each block and merge each full group, which all longer histories share; go on from ``levels``."""
    for block in blocks:
        levels = _add(write("block", block), levels, write, fan_in, max_depth)
    return levels


def merge_levels(levels: Levels[Text], write: Write[Block, Text]) -> Text | None:
    """Merge what is left, from the blocks' summaries up to one text; None where there is nothing."""
    merged: tuple[Text, ...] = ()
    for level in levels:
        group = level + merged
        merged = (write("merge", inputs=group),) if len(group) > 1 else group
    return merged[0] if merged else None


def _add(
    text: Text, levels: Levels[Text], write: Write[Block, Text], fan_in: int | None, max_depth: int | None
) -> Levels[Text]:
    """Add a text to the lowest level; a full group goes up as one text, unless the level is the topmost."""
    group, above = (*levels[0], text), levels[1:]
    if len(group) != fan_in or max_depth == 2:
        return group, *above
    depth_above = None if max_depth is None else max_depth - 1
    return (), *_add(write("merge", inputs=group), above or ((),), write, fan_in, depth_above)
