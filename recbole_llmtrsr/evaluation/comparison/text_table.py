"""A table of texts, in Markdown and in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
}


@dataclass(frozen=True)
class TextTable:
    """``n_names`` columns of text, left-aligned, then columns of numbers; the last may be text too."""

    caption: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]  # [n_lines][n_columns]
    n_names: int
    is_last_text: bool = False

    def markdown(self) -> str:
        """The table without the caption, pipes and line breaks in its texts escaped."""
        frame = self._frame(lambda text: without_breaks(text).replace("|", "\\|"))
        return f"{frame.to_markdown(index=False, disable_numparse=True, colalign=self._sides('left', 'right'))}\n"

    def captioned(self) -> str:
        """The caption and the table in Markdown; empty without lines."""
        return f"{without_breaks(self.caption)}\n\n{self.markdown()}" if self.lines else ""

    def latex(self, note: str = "") -> str:
        """A tabular with booktabs; caption and note stand above it as comments."""
        above = "".join(f"% {without_breaks(line)}\n" for line in (self.caption, note) if line)
        return above + tabular(self._frame(escaped), "".join(self._sides("l", "r")))

    def _frame(self, text: Callable[[str], str]) -> pd.DataFrame:
        return pd.DataFrame([list(map(text, line)) for line in self.lines], columns=list(map(text, self.header)))

    def _sides(self, left: str, right: str) -> list[str]:
        """A mark for each column. [n_columns]"""
        n_numbers = len(self.header) - self.n_names - self.is_last_text
        return [left] * self.n_names + [right] * n_numbers + [left] * self.is_last_text


def tabular(frame: pd.DataFrame, columns: str) -> str:
    """A table of LaTeX as a tabular with booktabs."""
    return str(frame.to_latex(index=False, escape=False, column_format=columns))


def without_breaks(text: str) -> str:
    r"""A text without breaks and control characters, which would end a comment or a row of a table.

    >>> print(without_breaks("A\n\\input{x}\t%"))
    A \input{x} %
    """
    return _BREAKS.sub(" ", text)


def escaped(text: str) -> str:
    r"""A text escaped for LaTeX, a hyphen before a number as a minus sign.

    Braces before a leading bracket or star keep it from being an argument of the line before.

    >>> print(escaped("a_b -.050 ±.010 p<.001"), escaped("[Ours]"))
    a\_b $-$.050 $\pm$.010 p$<$.001 {}[Ours]
    """
    printed = "".join(_LATEX.get(character, character) for character in without_breaks(text))
    return re.sub(r"^(?=[\[*])", "{}", re.sub(r"(?<!\w)-(?=[.\d])", "$-$", printed))
