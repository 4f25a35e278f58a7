"""A DataFrame in the place of a file of rows."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, eq=False)
class FrameTable:
    """A DataFrame that a converter reads as it reads a file.

    Attributes:
        name: what messages call it.
        frame: its rows.
    """

    name: str
    frame: pd.DataFrame

    def __str__(self) -> str:
        return f"the DataFrame {self.name}"
