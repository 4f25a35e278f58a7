"""The exception for errors that the user can correct, and how command lines report it."""

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
    """An error in the user's input; its message names the value, the accepted values and the remedy.

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
    """Suggest the accepted name that is closest to a misspelt one; '' if none is similar.

    Args:
        name: what the user wrote.
        known: accepted names.
        cutoff: minimum similarity of two names, from 0 to 1.
        any_case: always suggest a name that differs only in upper and lower case.
        form: format of the suggestion, which follows a sentence.

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
    """Replace every run of white space and control characters by one space.

    >>> one_line("a\\u2028b \\x00 c\\n")
    'a b c'
    """
    return GAPS.sub(" ", text).strip()


def exit_code(work: Callable[[], int]) -> int:
    """Run a command and return its exit code; 2, with a message on stderr, for an error that the user can correct.

    Such errors are a `UserError`, and a disk that is full or read-only.
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
            f"error: {error.strerror}: {error.filename or 'a file'}: make room or choose another folder; finished"
            " results are kept, and --resume=<result folder> resumes the run",
            file=sys.stderr,
        )
        return 2


def command_line(parser: Callable[[], ArgumentParser], run: Callable[[Namespace], int]) -> Callable[..., int]:
    """Build the ``main`` function of a command.

    Args:
        parser: makes the argument parser.
        run: does the work with the parsed arguments.

    Returns:
        a function that takes the command line without the program's name (None reads the arguments of the process) and
        returns an `exit_code`.
    """

    def main(arguments: Sequence[str] | None = None) -> int:
        options = parser().parse_args(arguments)
        return exit_code(lambda: run(options))

    return main
