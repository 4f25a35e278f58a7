"""The bodies of requests and their limits; answers are dataclasses of the package."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_HISTORY, MAX_CANDIDATES = 5_000, 1_000  # items
MAX_ID, MAX_TEXT = 500, 20_000  # characters
MAX_COLUMNS = 64
EXAMPLE: dict[str, Any] = {"user": "196", "candidates": ["50", {"title": "The Matrix (1999)"}]}

_Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
_Texts = Annotated[
    dict[Annotated[str, Field(max_length=MAX_ID)], Annotated[str, Field(max_length=MAX_TEXT)]],
    Field(min_length=1, max_length=MAX_COLUMNS),
]
GivenItem = _Id | _Texts


class Question(BaseModel):
    """A history, given by a known user or as a list of items."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user: _Id | None = Field(None, description="Id of a user of the data set.")
    whole: bool = Field(
        False,
        description="With user: read all known events instead of only those before the latest test target.",
    )
    history: Annotated[list[GivenItem], Field(min_length=1, max_length=MAX_HISTORY)] | None = Field(
        None,
        description="Items, oldest first: ids of the .item file, or texts by column, with an id under the id column's"
        " name if an item has one.",
    )

    @model_validator(mode="after")
    def _one_history(self) -> Question:
        if (self.user is None) == (self.history is None):
            raise ValueError("give either user or history")
        if self.whole and self.user is None:
            raise ValueError("whole needs a user: give user, or remove whole")
        return self


class RankQuestion(Question):
    """Rank candidates."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    candidates: Annotated[list[GivenItem], Field(min_length=1, max_length=MAX_CANDIDATES)] = Field(
        description="Items, as in history; each id once."
    )


class RecommendQuestion(Question):
    """Search the catalogue."""

    k: int = Field(10, ge=1, le=MAX_CANDIDATES, description="Number of items.")
    with_history: bool = Field(False, description="Whether items of the history may be recommended again.")


class ExplainQuestion(RankQuestion):
    """Explain how a ranking came about."""

    shown: int | None = Field(
        None,
        ge=0,
        description="Position, from 0, of the candidate whose prompt is shown; by default that of the best candidate.",
    )
