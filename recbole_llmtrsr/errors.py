"""The one exception for faults that the user can mend."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """A fault in the user's input; its text names the value, what is accepted and the remedy.

    The command line prints the text alone, without a traceback, and exits with code 2.

    Args:
        faults: one message, or all messages found at once.
    """

    def __init__(self, faults: str | Iterable[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))
