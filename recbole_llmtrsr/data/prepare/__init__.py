"""Converters from raw data sets to RecBole's atomic files, one module each, all listed in CONVERTERS."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recbole_llmtrsr.data.prepare.mind import convert_mind
from recbole_llmtrsr.data.prepare.report import Report
from recbole_llmtrsr.errors import UserError


@dataclass(frozen=True)
class Converter:
    """One raw data set.

    Attributes:
        source: what the source folder has to hold, for the command line's help.
        convert: reads the source folder, writes ``<out>/<name of out>.inter`` and ``.item``, returns the counts.
    """

    source: str
    convert: Callable[[Path, Path], Report]


CONVERTERS: dict[str, Converter] = {
    "mind": Converter("behaviors.tsv and news.tsv, as in the official MIND archives", convert_mind),
}


def converter(name: str) -> Converter:
    """Look a converter up.

    Raises:
        UserError: unknown name; the text lists the known ones and the nearest.
    """
    if name in CONVERTERS:
        return CONVERTERS[name]
    near = difflib.get_close_matches(name, CONVERTERS, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise UserError(f"unknown converter '{name}': accepted are {', '.join(CONVERTERS)}{hint}")
