"""The exception for faults that the user can mend, its wording, and how command lines report it."""

from __future__ import annotations

import difflib
import errno
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence

DISK_FAULTS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
# Joiners and direction marks (Unicode Cf) stay: emoji, Persian and Indic scripts are spelled with them.
GAPS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


class UserError(ValueError):
    """A fault in the user's input; its text names the value, what is accepted and the remedy.

    The command line prints the text alone, without a traceback, and exits with code 2.

    Args:
        faults: one message, or all messages found at once.
    """

    def __init__(self, faults: str | Iterable[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


def did_you_mean(
    name: str, known: Iterable[str], *, cutoff: float = 0.6, any_case: bool = False, form: str = "; {}"
) -> str:
    """The question by which an error proposes an accepted name that is near to what the user wrote; '' without one.

    Args:
        name: what the user wrote.
        known: accepted names.
        cutoff: how alike two names must be, from 0 to 1.
        any_case: whether a name that differs in capitals alone is always near.
        form: how the question joins the sentence before it.

    >>> did_you_mean("epocs", ["epochs", "topk"]), did_you_mean("x", ["epochs"])
    ("; did you mean 'epochs'?", '')
    >>> did_you_mean("sasrec", ["SASRec"], any_case=True, form=" ({})")
    " (did you mean 'SASRec'?)"
    """
    known = list(known)
    near = [one for one in known if any_case and one.lower() == name.lower()]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return form.format(f"did you mean '{near[0]}'?") if near else ""


def one_line(text: str) -> str:
    """Text with every run of white space and control characters as one space.

    >>> one_line("a\\u2028b \\x00 c\\n")
    'a b c'
    """
    return GAPS.sub(" ", text).strip()


def exit_code(work: Callable[[], int]) -> int:
    """The exit code of a command line: that of its work, or 2 for a fault that the user can mend, printed on stderr.

    Such faults are a `UserError`, and a disk that is full or cannot be written.
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


def command_line(parser: Callable[[], ArgumentParser], run: Callable[[Namespace], int]) -> Callable[..., int]:
    """The ``main`` of a command, from what makes the parser of its flags and what does the work.

    Returns:
        a function of the command line without the program's name (None: the process's own), which returns `exit_code`.
    """

    def main(arguments: Sequence[str] | None = None) -> int:
        options = parser().parse_args(arguments)
        return exit_code(lambda: run(options))

    return main
