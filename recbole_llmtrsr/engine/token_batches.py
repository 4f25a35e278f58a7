"""Groups histories and candidates into forward passes with a bounded number of tokens."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from recbole_llmtrsr.runtime.packing import packed


def token_batches(n_tokens: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices of histories for each batch, the longest first, so that an out-of-memory error occurs early.

    A history above the bound forms a batch alone.

    >>> list(token_batches([3, 9, 4, 2], max_tokens=8))
    [[1], [2, 0], [3]]
    """
    longest_first = sorted(range(len(n_tokens)), key=n_tokens.__getitem__, reverse=True)  # equal ones keep their order
    return packed(longest_first, n_tokens, max_tokens)


def dealt(sizes: Sequence[int], n: int) -> list[list[int]]:
    """Indices in n groups of nearly equal size; each index, largest first, joins the smallest group so far.

    >>> dealt([5, 1, 4, 2], 2)
    [[0, 1], [2, 3]]
    >>> dealt([7], 2)
    [[0], []]
    """
    groups: list[list[int]] = [[] for _ in range(n)]
    loads = [(0, number) for number in range(n)]  # a heap
    for index in sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True):
        load, number = loads[0]
        groups[number].append(index)
        heapq.heapreplace(loads, (load + sizes[index], number))
    return groups


def even_batches(n_tokens: Sequence[int], max_tokens: int, n: int) -> list[list[int]]:
    """Indices of histories for each batch, as in `token_batches`, in a multiple of n batches of similar size.

    With fewer histories than that, there are fewer batches.

    >>> even_batches([3, 9, 4, 2], max_tokens=20, n=2)
    [[1], [2, 0, 3]]
    >>> even_batches([3, 3, 3, 3], max_tokens=4, n=2)
    [[0], [1], [2], [3]]
    """
    n_batches = n * max(1, -(-sum(n_tokens) // (n * max_tokens)))
    while True:
        batches = [batch for batch in dealt(n_tokens, n_batches) if batch]
        if all(len(batch) == 1 or sum(n_tokens[i] for i in batch) <= max_tokens for batch in batches):
            return batches
        n_batches += n


def candidate_chunks(
    lengths: Sequence[int], prefix_length: int, max_tokens: int, *, padded: bool = False
) -> Iterator[list[int]]:
    """Indices of the candidates of one history for each chunk.

    Candidates of similar length share a chunk. A single candidate always fits.

    Args:
        lengths: tokens of every candidate.
        prefix_length: tokens of the prefix, which the first chunk also contains.
        max_tokens: bound on the tokens of a chunk.
        padded: whether each candidate has its own row behind the prefix, padded to the longest of its chunk.

    >>> list(candidate_chunks([5, 1, 4, 2], prefix_length=3, max_tokens=6))
    [[1, 3], [2], [0]]
    >>> list(candidate_chunks([5, 1, 4, 2], prefix_length=10, max_tokens=24, padded=True))
    [[1, 3], [2], [0]]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    if padded:
        return packed(order, [prefix_length + n for n in lengths], max_tokens, padded=True)
    return packed(order, lengths, max_tokens, begun=prefix_length)
