"""Tokens (ids of the user's files) as object arrays of strings.

NumPy's string arrays pad every element to the longest: a single id of 3,000 characters among 100,000 takes 1.1 GiB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Ids = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.object_]
_MOST_ROOM = 4  # maximum size of a NumPy string array in a file, as a multiple of its characters


def as_tokens(texts: Sequence[str] | npt.NDArray[Any]) -> Tokens:
    """Convert strings of any type to an object array of Python strings. [n]"""
    made: Tokens = np.empty(len(texts), dtype=object)
    made[:] = [str(text) for text in texts]
    return made


def ranked(tokens: Tokens) -> tuple[Tokens, Ids]:
    """The distinct tokens, sorted by code points, and the rank of each token among them. [n_distinct], [n]

    >>> [part.tolist() for part in ranked(as_tokens(["b", "a", "b"]))]
    [['a', 'b'], [1, 0, 1]]
    """
    ranks, distinct = pd.factorize(tokens, sort=True)
    return distinct, ranks


def packed(name: str, tokens: Tokens) -> dict[str, npt.NDArray[Any]]:
    """Arrays for a file without pickles: one array of NumPy strings if it is small, else UTF-8 bytes with their ends.

    >>> {name: array.tolist() for name, array in packed("ids", as_tokens(["a", "é" * 99, "b", "c", "d"])).items()}
    ... # doctest: +ELLIPSIS
    {'ids_utf8': [97, 195, ...], 'ids_ends': [1, 199, 200, 201, 202]}
    """
    lengths = [len(token) for token in tokens]
    is_small = max(lengths, default=0) * len(lengths) <= _MOST_ROOM * sum(lengths)
    if is_small and not any(token.endswith("\0") for token in tokens):  # NumPy's strings drop trailing NULs
        return {name: tokens.astype(np.str_)}
    texts = [token.encode("utf-8", "surrogatepass") for token in tokens]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    return {f"{name}_utf8": np.frombuffer(b"".join(texts), dtype=np.uint8), f"{name}_ends": ends}


def unpacked(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The tokens that ``packed`` wrote; raises a KeyError if there are none, a ValueError if they are damaged."""
    if name in arrays:
        return np.asarray(arrays[name])
    content, ends = arrays[f"{name}_utf8"].tobytes(), arrays[f"{name}_ends"].tolist()
    if ends != sorted(ends) or (ends or [0])[-1] != len(content):
        raise ValueError(f"{name}_ends must rise to the {len(content)} bytes of {name}_utf8")
    return as_tokens([content[begin:end].decode("utf-8", "surrogatepass") for begin, end in pairwise([0, *ends])])
