"""The one exception for faults that the user can mend, and how command lines tell it."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterable

DISK_FAULTS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)


class UserError(ValueError):
    """A fault in the user's input; its text names the value, what is accepted and the remedy.

    The command line prints the text alone, without a traceback, and exits with code 2.

    Args:
        faults: one message, or all messages found at once.
    """

    def __init__(self, faults: str | Iterable[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


def exit_code(work: Callable[[], int]) -> int:
    """What a command line ends with: the code of its work, or 2 for what the user can mend, told on stderr.

    That is a `UserError`, or a disk that is full or cannot be written.
    """
    try:
        return work()
    except UserError as error:
        for fault in error.faults:
            print(f"error: {fault}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        print(
            f"error: {error.strerror}: {error.filename or 'a file'}: make room or choose another folder; what was"
            " finished before is kept, and a run goes on with --resume=<its result folder>",
            file=sys.stderr,
        )
        return 2
