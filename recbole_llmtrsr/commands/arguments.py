"""Arguments that several commands read: free options of a run, property files, a file to write."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from recbole_llmtrsr.config.settings import unknown_options
from recbole_llmtrsr.config.sources import RUNNER_FLAGS, flags, recbole_options
from recbole_llmtrsr.errors import UserError

_CONFIG = "recbole_llmtrsr.config.config"


def check_arguments(arguments: Sequence[str]) -> None:
    """Check the form and the names of options ``--name=value`` before torch is imported; Config checks values.

    Raises:
        UserError: arguments of another form, or misspelt names, with the nearest real ones.
    """
    faults = [
        f"argument '{argument}' is not understood: write options as --name=value, without spaces around ="
        for argument in arguments
        if not re.fullmatch(r"--[\w.@-]+=.*", argument, flags=re.DOTALL)
    ]
    if faults:
        raise UserError(faults)
    check_names(flags(arguments))


def check_names(names: Iterable[str]) -> None:
    """Check names of options, also of those for one model, such as SASRec.epochs.

    Raises:
        UserError: misspelt names, with the nearest real ones.
    """
    registered = getattr(sys.modules.get(_CONFIG), "OWN_OPTIONS", set[str]())  # nothing is, before it is imported
    known = recbole_options() | registered | {*RUNNER_FLAGS}
    faults, _ = unknown_options({name.rpartition(".")[-1]: None for name in names}, known)
    if faults:
        raise UserError(faults)


def config_files(text: str | None) -> list[str]:
    """Property files, separated by commas or white space; the name of a single file may contain these.

    >>> config_files("a.yaml, b.yaml"), config_files(None)
    (['a.yaml', 'b.yaml'], [])
    """
    return [text] if text and Path(text).is_file() else re.findall(r"[^\s,]+", text or "")


def check_writable(out: Path) -> None:
    """Make the folder of a file that a command writes at its end.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise UserError(
            f"--out={out} cannot be written ({error.strerror}): name a file in a writable folder"
        ) from error


def count(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got '{text}'")
    return int(text)
