"""A state in one file: tensors as safetensors, everything else as JSON in its header, so that nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recbole_llmtrsr.runtime.atomic_write import draft_of

_TREE, _TENSOR, _TUPLE, _PAIRS = "state", "tensor", "tuple", "pairs"


class _Tensors:
    """Tensors by name, no two of which share memory, which the format refuses."""

    def __init__(self) -> None:
        self.named: dict[str, torch.Tensor] = {}
        self._memory: set[int] = set()

    def add(self, tensor: torch.Tensor) -> str:
        if tensor.layout != torch.strided:
            raise TypeError(f"a saved state cannot hold a tensor of the layout {tensor.layout}")
        name, dense = str(len(self.named)), tensor.detach().cpu().contiguous()
        if dense.untyped_storage().data_ptr() in self._memory:
            dense = dense.clone()
        self._memory.add(dense.untyped_storage().data_ptr())
        self.named[name] = dense
        return name


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write as a whole or not at all; a previous file stays until all is written, also on a disk that fails.

    Args:
        path: of the file; its folder must exist.
        state: dictionaries, lists, tuples, tensors, text, numbers, truth values and None, in one another.

    Raises:
        TypeError: it holds something else.
        OSError: it cannot be written; nothing is left behind.
    """
    tensors = _Tensors()
    tree = json.dumps(_encoded(state, tensors))
    with draft_of(path) as draft:
        try:
            save_file(tensors.named, draft, metadata={_TREE: tree})
        except SafetensorError as error:
            raise OSError(f"{path}: {error}") from error


def check_state(value: object) -> None:
    """Raise a TypeError that names what cannot be saved."""
    _encoded(value, _Tensors())


def read_state(path: Path) -> dict[str, Any]:
    """Read a state, with tensors on the CPU.

    Raises:
        ValueError: the file is damaged, or no state.
        OSError: it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = _decoded(json.loads((file.metadata() or {})[_TREE]), file.get_tensor)
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or is not a saved state: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a saved state")
    return found


def _encoded(value: object, tensors: _Tensors) -> Any:
    """JSON of a value; its tensors are added to those.

    >>> _encoded({"a": (1, None), 2: [True]}, _Tensors())
    {'pairs': [['a', {'tuple': [1, None]}], [2, [True]]]}
    """
    if isinstance(value, torch.Tensor):
        return {_TENSOR: tensors.add(value)}
    if isinstance(value, Mapping):  # as pairs: JSON has no numbers for keys, and optimizers have them
        return {_PAIRS: [[_encoded(key, tensors), _encoded(own, tensors)] for key, own in value.items()]}
    if isinstance(value, tuple):
        return {_TUPLE: [_encoded(own, tensors) for own in value]}
    if isinstance(value, list):
        return [_encoded(own, tensors) for own in value]
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise TypeError(f"a saved state cannot hold a {type(value).__name__}")


def _decoded(value: object, tensor: Callable[[str], torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_decoded(own, tensor) for own in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == _TENSOR:
        return tensor(content)
    if kind == _TUPLE:
        return tuple(_decoded(own, tensor) for own in content)
    return {_decoded(key, tensor): _decoded(own, tensor) for key, own in content}
