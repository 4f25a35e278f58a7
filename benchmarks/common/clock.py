"""Where the time of a call goes, by parts that may lie within each other."""

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
    """Charges every moment to the innermost part that is running; the device is waited for at each change.

    Attributes:
        seconds: by part.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device = device
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str = REST) -> Iterator[None]:
        """What runs inside belongs to this part."""
        self._charge()
        self._running.append(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Let every call of a function or method of this name belong to a part."""
        original = getattr(owner, name)

        @wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(part):
                return original(*args, **kwargs)

        setattr(owner, name, timed)

    def wrap_iterator(self, owner: Any, name: str, part: str) -> None:
        """The same for the waiting of a function that gives an iterator."""
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
        """A line per part, the share of all that lies outside the given parts last."""
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
