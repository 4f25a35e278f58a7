"""What a run shows on the screen: short lines, warnings and one progress bar; its log file has all the rest."""

from __future__ import annotations

import logging
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

_MARK = "on_screen"
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_LEAST, _MOST = 60, 100  # columns
_NAME = 13  # columns of the names of facts, indentation included


def width() -> int:
    """Columns of the screen that a run uses: those of the terminal, from 60 to 100."""
    return min(max(shutil.get_terminal_size((80, 24)).columns, _LEAST), _MOST)


def show(text: str) -> None:
    """Log a text to the log file and to the screen, where nothing but warnings stands beside such texts."""
    logging.getLogger().info(text, extra={_MARK: True})


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Lines of a name and a text each, wrapped to the screen; facts without a text are left out.

    >>> print(facts([("data", "943 users"), ("log", "")]))
      data         943 users
    """
    lines = (wrapped(f"  {name}".ljust(_NAME + 2), text, width()) for name, text in pairs if text)
    return "\n".join(lines)


def wrapped(lead: str, text: str, columns: int) -> str:
    """A text behind a lead, whose further lines begin below its first word."""
    return textwrap.fill(
        text,
        columns,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    )


class ScreenHandler(logging.StreamHandler[Any]):
    """Writes marked messages and warnings to stderr, beside a progress bar; with ``verbose`` every message.

    Attributes:
        verbose: whether unmarked messages are shown too.
    """

    def __init__(self, verbose: bool = False) -> None:
        super().__init__(sys.stderr)
        self.verbose = verbose
        self.setFormatter(_Lines("%(message)s"))

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        return self.verbose or record.levelno >= logging.WARNING or getattr(record, _MARK, False)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record above the progress bar, if there is one."""
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


@contextmanager
def on_screen() -> Iterator[ScreenHandler]:
    """Show the messages of the block; a block within another one shares its handler."""
    logger = logging.getLogger()
    outer = next((one for one in logger.handlers if isinstance(one, ScreenHandler)), None)
    handler = outer or ScreenHandler()
    if outer is None:
        logger.addHandler(handler)
    try:
        yield handler
    finally:
        if outer is None:
            logger.removeHandler(handler)


class _Lines(logging.Formatter):
    """Marked texts stand as they are; warnings are wrapped behind their level."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno < logging.WARNING:
            return text
        return wrapped(f"{record.levelname.lower()}: ", text, width())


class Bar(tqdm):  # type: ignore[type-arg]
    """A progress bar that keeps to one line of a terminal and disappears when it is full; no other output shows it.

    RecBole's trainers, which draw 100 columns with colours, are given this class too.
    """

    def __init__(self, *args: Any, desc: str = "", disable: bool = False, **kwargs: Any) -> None:
        plain = " ".join(_COLOUR.sub("", desc).lower().split())
        kwargs |= {"ncols": None, "dynamic_ncols": True, "leave": False, "desc": plain, "disable": disable or None}
        super().__init__(*args, **kwargs)
