"""Which histories and candidates share a forward pass, bounded by tokens."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from recbole_llmtrsr.engine.rows import Section


def tokens_of_history(prefix: Section, candidates: Sequence[Section], *, rows_apart: bool) -> int:
    """What a history takes of a forward pass.

    Args:
        prefix: its token ids.
        candidates: token ids of its candidates.
        rows_apart: every candidate has a padded row of its own, with the prefix in it.
    """
    if rows_apart:
        return len(candidates) * (len(prefix) + max(map(len, candidates)))
    return len(prefix) + sum(map(len, candidates))


def token_batches(n_tokens: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices of histories that go together, the longest first, so that memory fails early if at all.

    A history above the bound is a batch of its own.

    >>> list(token_batches([3, 9, 4, 2], max_tokens=8))
    [[1], [2, 0], [3]]
    """
    return _packed(sorted(range(len(n_tokens)), key=lambda i: -n_tokens[i]), n_tokens, max_tokens)


def dealt(sizes: Sequence[int], n: int) -> list[list[int]]:
    """Indices in n groups of nearly the same size: the largest first, each to the group that has least.

    >>> dealt([5, 1, 4, 2], 2)
    [[0, 1], [2, 3]]
    >>> dealt([7], 2)
    [[0], []]
    """
    groups: list[list[int]] = [[] for _ in range(n)]
    loads = [(0, number) for number in range(n)]  # a heap
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        load, number = loads[0]
        groups[number].append(index)
        heapq.heapreplace(loads, (load + sizes[index], number))
    return groups


def even_batches(n_tokens: Sequence[int], max_tokens: int, n: int) -> list[list[int]]:
    """Indices of histories that go together, as `token_batches`, but n batches or a multiple of n, of like size.

    There are fewer where there are fewer histories.

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


def candidate_chunks(lengths: Sequence[int], prefix_length: int, max_tokens: int) -> Iterator[list[int]]:
    """Indices of candidates of one history that go together; the first chunk has the prefix's tokens besides.

    Candidates of like length share a chunk. One candidate always fits.

    >>> list(candidate_chunks([5, 1, 4, 2], prefix_length=3, max_tokens=6))
    [[1, 3], [2], [0]]
    """
    return _packed(sorted(range(len(lengths)), key=lengths.__getitem__), lengths, max_tokens, prefix_length)


def _packed(order: Sequence[int], sizes: Sequence[int], most: int, begun: int = 0) -> Iterator[list[int]]:
    """Indices in their order, together as long as their sizes come to no more than `most`; the first have `begun`."""
    pack: list[int] = []
    total = begun
    for i in order:
        if pack and total + sizes[i] > most:
            yield pack
            pack, total = [], 0
        pack.append(i)
        total += sizes[i]
    if pack:
        yield pack
