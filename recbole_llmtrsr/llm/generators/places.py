"""Greedy decoding in a fixed number of places: a waiting prompt takes the place of an answer that has ended.

transformers' continuous batching does the same on GPUs; on a CPU it is no faster than one prompt at a time, as its
paged attention compares every token of a pass with those of all prompts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature
from typing import NamedTuple

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


class Answer(NamedTuple):
    """The new tokens of an answer, including the end token, and its share of the time."""

    position: int
    ids: list[int]
    seconds: float


def can_refill(model: PreTrainedModel) -> bool:
    """Whether rows of different ages can share a pass of this model.

    They can if each layer caches keys and values of all tokens, and if rotations depend on the given positions alone.
    Sliding windows and recurrent states are tied to columns, and so is attention that a model implements itself.
    """
    parameters = signature(model.forward).parameters
    rotation = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    return (
        model._supports_attention_backend
        and not model.config.is_encoder_decoder
        and "position_ids" in parameters
        and _cache_name(model) in parameters
        and rotation.get("rope_type") not in ("dynamic", "longrope")
        and all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
    )


def decode_in_places(
    model: PreTrainedModel, rows: Mapping[int, Sequence[int]], n_places: int, max_new_tokens: int
) -> Iterator[Answer]:
    """Answer rows of token ids, each as soon as it ends.

    The prefix that all rows have in common is read once.

    Args:
        model: a model that ``can_refill``; its ``generation_config`` states end tokens and padding.
        rows: position -> token ids. The longest come first, so that memory runs out early, if at all.
        n_places: maximum number of answers in progress.
        max_new_tokens: maximum number of tokens of an answer.
    """
    waiting, places = deque(rows.items()), _Places(model, list(rows.values()), n_places, max_new_tokens)
    while waiting or places.running:
        start = time.perf_counter()
        n_new = min(places.n_free, len(waiting))
        advanced = places.read([waiting.popleft() for _ in range(n_new)]) if n_new else places.step()
        seconds = (time.perf_counter() - start) / len(advanced)
        for row in advanced:
            row.seconds += seconds
        for ended in places.pop_ended():
            yield Answer(ended.position, ended.new, ended.seconds)


@dataclass(slots=True)
class _Running:
    """An answer in progress; ``length`` is the number of its tokens in the cache."""

    position: int
    length: int
    new: list[int]
    seconds: float = 0.0


class _PlaceLayer(DynamicLayer):
    """Keys and values of one layer in a buffer, so that a new token is written without copying the earlier ones.

    Row i of a pass writes into column ``columns[i]`` of place i. Columns behind it hold finite numbers and are masked.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, n_places: int, n_columns: int) -> None:
        super().__init__()
        # Zeros, as a masked NaN would still spread.
        self.keys, self.values = (
            part.new_zeros((n_places, part.shape[1], n_columns, part.shape[3])) for part in (keys, values)
        )
        self.is_initialized = True
        self.places = self.columns = torch.empty(0)
        self.width = 0  # number of columns of a pass, with the new one

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store one token for each row, and return the keys and values of all rows."""
        self.keys[self.places, :, self.columns] = key_states[:, :, 0]
        self.values[self.places, :, self.columns] = value_states[:, :, 0]
        n_rows = len(key_states)
        return self.keys[:n_rows, :, : self.width], self.values[:n_rows, :, : self.width]

    def get_seq_length(self) -> int:
        """Number of columns before the new one."""
        return self.width - 1


class _Places:
    """The answers in progress, in places 0 to len(running) - 1 of the cache.

    Args:
        rows: all rows that will be read, of which the first is the longest.
    """

    def __init__(
        self, model: PreTrainedModel, rows: Sequence[Sequence[int]], n_places: int, max_new_tokens: int
    ) -> None:
        self.running: list[_Running] = []
        self._model, self._max_new_tokens = model, max_new_tokens
        self._pad_id, self._ends = model.generation_config.pad_token_id, set(model.generation_config.eos_token_id)
        self._n_places, self._n_columns = min(n_places, len(rows)), len(rows[0]) + max_new_tokens
        parameters = signature(model.forward).parameters
        self._cache_name = _cache_name(model)
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._prefix = list(rows[0][: _shared(rows)])
        self._prefix_cache: DynamicCache | None = None
        self._layers: list[_PlaceLayer] = []

    @property
    def n_free(self) -> int:
        return self._n_places - len(self.running)

    @torch.inference_mode()
    def read(self, rows: Sequence[tuple[int, Sequence[int]]]) -> list[_Running]:
        """Put rows into free places, with the first token of each answer."""
        n_shared = len(self._prefix)
        rests = [list(row[n_shared:]) for _, row in rows]
        width = max(map(len, rests))
        pads = [width - len(rest) for rest in rests]
        cache = self._after_prefix(len(rows))
        first = self._next_tokens(
            ids=[[self._pad_id] * pad + rest for pad, rest in zip(pads, rests, strict=True)],
            mask=torch.tensor([[1] * n_shared + [0] * pad + [1] * (width - pad) for pad in pads]),
            positions=torch.tensor([[n_shared + max(0, i - pad) for i in range(width)] for pad in pads]),
            cache=cache,
        )
        if not self._layers:
            self._layers = [
                _PlaceLayer(read.keys, read.values, self._n_places, self._n_columns) for read in cache.layers
            ]
        new = [_Running(n, len(row), [token]) for (n, row), token in zip(rows, first, strict=True)]
        for i, (pad, row) in enumerate(zip(pads, new, strict=True), start=len(self.running)):
            for layer, read in zip(self._layers, cache.layers, strict=True):
                for to, part in ((layer.keys, read.keys), (layer.values, read.values)):
                    part = part[i - len(self.running)]
                    to[i, :, :n_shared] = part[:, :n_shared]
                    to[i, :, n_shared : row.length] = part[:, n_shared + pad :]
        self.running += new
        return new

    @torch.inference_mode()
    def step(self) -> list[_Running]:
        """Add a token to all answers."""
        columns = torch.tensor([row.length for row in self.running])
        width = int(columns.max()) + 1
        places = torch.arange(len(columns)).to(self._model.device)
        for layer in self._layers:
            layer.places, layer.columns, layer.width = places, columns.to(places.device), width
        tokens = self._next_tokens(
            ids=[row.new[-1:] for row in self.running],
            mask=(torch.arange(width) <= columns[:, None]).long(),
            positions=columns[:, None],
            cache=Cache(layers=self._layers),
        )
        for row, token in zip(self.running, tokens, strict=True):
            row.new.append(token)
            row.length += 1
        return self.running

    @torch.inference_mode()
    def pop_ended(self) -> list[_Running]:
        """Remove the answers that have ended; the last ones move into their places."""
        ended = []
        for i in reversed(range(len(self.running))):
            row = self.running[i]
            if row.new[-1] not in self._ends and len(row.new) < self._max_new_tokens:
                continue
            ended.append(row)
            last = self.running.pop()
            if i < (source := len(self.running)):
                self.running[i] = last
                for layer in self._layers:
                    for part in (layer.keys, layer.values):
                        part[i, :, : last.length] = part[source, :, : last.length]
        return ended

    def _after_prefix(self, n_rows: int) -> DynamicCache:
        """The cache of ``n_rows`` rows that have read the prefix."""
        if self._prefix_cache is None:
            self._prefix_cache = DynamicCache(config=self._model.config)
            if n := len(self._prefix):
                ones, positions = torch.ones((1, n), dtype=torch.long), torch.arange(n)[None]
                self._next_tokens([self._prefix], ones, positions, self._prefix_cache)
        cache = deepcopy(self._prefix_cache)
        cache.batch_repeat_interleave(n_rows)
        return cache

    def _next_tokens(
        self, ids: list[list[int]], mask: torch.Tensor, positions: torch.Tensor, cache: Cache
    ) -> list[int]:
        """The most likely token behind each row."""
        device = self._model.device
        output = self._model(
            input_ids=torch.tensor(ids).to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            use_cache=True,
            **{self._cache_name: cache},
            **self._options,
        )
        tokens: list[int] = output.logits[:, -1].argmax(-1).tolist()
        return tokens


def _cache_name(model: PreTrainedModel) -> str:
    """The parameter of ``forward`` that takes the cache; older releases of transformers have another name."""
    return "cache" if "cache" in signature(model.forward).parameters else "past_key_values"


def _shared(rows: Sequence[Sequence[int]]) -> int:
    """Length of the prefix that all rows share; every row keeps a token behind it.

    >>> _shared([[1, 2, 3, 4], [1, 2, 5], [1, 2]]), _shared([[1, 2, 3]])
    (1, 0)
    """
    if len(rows) == 1:
        return 0
    shortest = min(map(len, rows))
    return next((n for n in range(shortest - 1) if len({row[n] for row in rows}) > 1), max(0, shortest - 1))
