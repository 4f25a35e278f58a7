"""The hierarchical paradigm: every block on its own, then one merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recbole_llmtrsr.history import blocks
from recbole_llmtrsr.summarizer.plan import Plan


def plan_hierarchical(histories: Mapping[int, Sequence[str]], block_size: int, max_blocks: int | None = None) -> Plan:
    """Plan s_k = write(block k) for all k, then summary = merge(s_1 .. s_K).

    Two waves, whatever the length. A history of one block needs no merge: its summary is the block's.

    Args:
        histories: history id -> item tokens, oldest first.
        block_size: items per block.
        max_blocks: number of most recent blocks that count; None takes all.

    Source:
        the paper's hierarchical summarization.
    """
    plan = Plan()
    for history_id, tokens in histories.items():
        numbers = tuple(plan.block(block) for block in blocks(tokens, block_size, max_blocks))
        if len(numbers) > 1:
            plan.results[history_id] = plan.merge(numbers)
        else:
            plan.results[history_id] = numbers[0] if numbers else None
    return plan
