"""A short measurement of how fast a local model reads and writes, for estimates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from transformers import PreTrainedModel

from recbole_llmtrsr.llm.generators.generation import MeasuredSpeed
from recbole_llmtrsr.llm.generators.places import Answer

N_STEPS = 8  # timed steps of a full batch
SECONDS = 20.0  # upper bound for the answers that show how long answers are
MIN_NEW_TOKENS = 16  # of these answers

Decode = Callable[[PreTrainedModel, Mapping[int, Sequence[int]], int, int], Iterator[Answer]]


def measure_speed(
    decode: Decode, model: PreTrainedModel, rows: Sequence[Sequence[int]], n_places: int, max_new_tokens: int
) -> MeasuredSpeed:
    """Measure reading and the length of answers on a few rows, and writing on a full batch of copies of one row.

    Args:
        decode: decodes rows, as the generator does.
        model: see ``decode``.
        rows: token ids of a few typical prompts.
        n_places: number of answers that will be in progress.
        max_new_tokens: maximum number of tokens of an answer.
    """
    _timed(decode, model, [row[-8:] for row in rows], len(rows), 2)  # the first passes of a process are slower
    read, _ = _timed(decode, model, rows, len(rows), 1)
    copies = [rows[0]] * n_places
    begun, n_first = _timed(decode, model, copies, n_places, 1)
    written, n_tokens = _timed(decode, model, copies, n_places, min(1 + N_STEPS, max_new_tokens))
    seconds = max(0.0, written - begun) / max(1, sum(n_tokens) - sum(n_first))
    limit = int(SECONDS / max(seconds * n_places, 1e-9))
    limit = min(max(limit, MIN_NEW_TOKENS), max_new_tokens)
    _, lengths = _timed(decode, model, rows, len(rows), limit)
    n_ended = len(lengths) if limit == max_new_tokens else sum(length < limit for length in lengths)
    return MeasuredSpeed(
        read / sum(map(len, rows)),
        seconds or read / sum(map(len, rows)),
        # The mean length if any further token may be the last, as answers beyond the limit were not awaited.
        min(sum(lengths) / max(n_ended, 1), max_new_tokens),
    )


def _timed(
    decode: Decode, model: PreTrainedModel, rows: Sequence[Sequence[int]], n_places: int, max_new_tokens: int
) -> tuple[float, list[int]]:
    """Seconds, and the lengths of the answers."""
    ordered = dict(enumerate(sorted(rows, key=len, reverse=True)))
    start = time.perf_counter()
    lengths = [len(answer.ids) for answer in decode(model, ordered, n_places, max_new_tokens)]
    return time.perf_counter() - start, lengths
