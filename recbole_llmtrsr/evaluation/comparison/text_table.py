"""A table of texts, in Markdown and in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
    """Columns of names to the left, of numbers to the right.

    Attributes:
        caption: what it shows.
        header: names of the columns. [n_columns]
        lines: of texts. [n_lines][n_columns]
        n_names: columns of names.
        is_last_text: whether the last column is one of names too.
    """

    caption: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    n_names: int
    is_last_text: bool = False

    def markdown(self) -> str:
        """Without the caption; a pipe in a name starts no column, a break no line."""
        rows = [self.header, self._sides("---", "---:"), *self.lines]
        return "".join("| " + " | ".join(one_line(text).replace("|", "\\|") for text in row) + " |\n" for row in rows)

    def latex(self, note: str = "") -> str:
        """A tabular with booktabs, its caption and a note comments above."""
        header, *lines = (latex_line(map(escaped, row)) for row in (self.header, *self.lines))
        above = "".join(f"% {one_line(line)}\n" for line in (self.caption, note) if line)
        return above + tabular("".join(self._sides("l", "r")), [header, r"\midrule", *lines])

    def _sides(self, left: str, right: str) -> list[str]:
        """A mark for each column. [n_columns]"""
        n_numbers = len(self.header) - self.n_names - self.is_last_text
        return [left] * self.n_names + [right] * n_numbers + [left] * self.is_last_text


def one_line(text: str) -> str:
    r"""A text without breaks and control characters, which would end a comment or a row of a table.

    >>> print(one_line("A\n\\input{x}\t%"))
    A \input{x} %
    """
    return _BREAKS.sub(" ", text)


def tabular(columns: str, lines: Sequence[str]) -> str:
    """Lines of LaTeX between rules."""
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}", ""])


def latex_line(cells: Iterable[str]) -> str:
    """Cells as a line of a tabular; a bracket or a star that begins one is no argument of the line before.

    >>> print(latex_line(["Pop", "0.5"]))
    Pop & 0.5 \\\\
    """
    line = " & ".join(cells) + r" \\"
    return "{}" + line if line[0] in "[*" else line


def escaped(text: str) -> str:
    r"""A text as LaTeX prints it, a minus before a number as a minus.

    >>> print(escaped("a_b -.050 ±.010 p<.001"))
    a\_b $-$.050 $\pm$.010 p$<$.001
    """
    printed = "".join(_LATEX.get(character, character) for character in one_line(text))
    return re.sub(r"(?<!\w)-(?=[.\d])", "$-$", printed)
