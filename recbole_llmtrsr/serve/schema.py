"""The bodies of requests, with bounds; answers are the package's dataclasses."""

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
    """A history: that of a known user, or one given as items."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user: _Id | None = Field(None, description="Id of a user of the data set.")
    whole: bool = Field(
        False, description="With user: all events that are known. Otherwise those before the latest target of the test."
    )
    history: Annotated[list[GivenItem], Field(min_length=1, max_length=MAX_HISTORY)] | None = Field(
        None,
        description="Items, oldest first: ids of the .item file, or texts by column, with an id under the id column's"
        " name if they are to have one.",
    )

    @model_validator(mode="after")
    def _one_history(self) -> Question:
        if (self.user is None) == (self.history is None):
            raise ValueError("give either user or history")
        if self.whole and self.user is None:
            raise ValueError("whole speaks of a user: give user, or leave whole out")
        return self


class RankQuestion(Question):
    """Rank candidates."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    candidates: Annotated[list[GivenItem], Field(min_length=1, max_length=MAX_CANDIDATES)] = Field(
        description="Items, as in history; each id once."
    )


class RecommendQuestion(Question):
    """Search the catalogue."""

    k: int = Field(10, ge=1, le=MAX_CANDIDATES, description="How many items.")
    with_history: bool = Field(False, description="Recommend items of the history again.")


class ExplainQuestion(RankQuestion):
    """Tell how a ranking came about."""

    shown: int | None = Field(
        None, ge=0, description="Position of the candidate whose prompt is told, from 0; the best one's if left out."
    )
