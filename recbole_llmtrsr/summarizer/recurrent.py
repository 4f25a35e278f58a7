"""The recurrent paradigm: one summary, updated block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recbole_llmtrsr.history import blocks
from recbole_llmtrsr.summarizer.plan import Plan


def plan_recurrent(histories: Mapping[int, Sequence[str]], block_size: int, max_blocks: int | None = None) -> Plan:
    """Plan s_1 = write(block 1), s_k = update(s_{k-1}, block k), summary = s_K.

    As many waves as the longest history has blocks. Chains are shared as far as their blocks are the same; with
    ``max_blocks``, the chain of a longer history starts at a later block and is shared less.

    Args:
        histories: history id -> item tokens, oldest first.
        block_size: items per block.
        max_blocks: number of most recent blocks that count; None takes all.

    Source:
        the paper's recurrent summarization.
    """
    plan = Plan()
    for history_id, tokens in histories.items():
        state = None
        for block in blocks(tokens, block_size, max_blocks):
            state = plan.block(block) if state is None else plan.update(state, block)
        plan.results[history_id] = state
    return plan
