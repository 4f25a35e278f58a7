"""Measures the time of a call by parts, which can be nested."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch

from recbole_llmtrsr.runtime.device import synchronize

REST = "the rest"


class Clock:
    """Assigns time to the innermost running part, and synchronizes the device whenever the part changes.

    Attributes:
        seconds: time by part.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device = device
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str = REST) -> Iterator[None]:
        """Assign the time within the context to a part."""
        self._charge()
        self._running.append(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Assign every call of a function or method to a part."""
        original = getattr(owner, name)

        @wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(part):
                return original(*args, **kwargs)

        setattr(owner, name, timed)

    def wrap_iterator(self, owner: Any, name: str, part: str) -> None:
        """Assign the time of waiting for a function's iterator to a part."""
        original = getattr(owner, name)

        @wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            iterator = iter(original(*args, **kwargs))
            while True:
                with self.part(part):
                    batch = next(iterator, self)
                if batch is self:
                    return
                yield batch

        setattr(owner, name, timed)

    def table(self, inside: Sequence[str]) -> str:
        """Return a table with one line per part, and a last line for the time outside of the given parts."""
        total = sum(self.seconds.values())
        outside = sum(seconds for name, seconds in self.seconds.items() if name not in inside)
        parts = sorted(self.seconds.items(), key=lambda part: -part[1])
        lines = [f"| {name} | {seconds:.2f} | {seconds / total:.1%} |" for name, seconds in parts]
        last = f"| **outside {', '.join(inside)}** | {outside:.2f} | {outside / total:.1%} |"
        return "\n".join(["| part | seconds | share |", "|---|---:|---:|", *lines, last])

    def _charge(self) -> None:
        synchronize(self._device)
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now
