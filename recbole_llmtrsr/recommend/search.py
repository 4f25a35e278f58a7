"""The items of the catalogue that are ranked for a history, in the order of the run's full ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.recommend.queries import Query
from recbole_llmtrsr.retrieval.reranking import Reranking, reranked, top_items

MOST_PROMPTS = 1_000  # of one recommendation without a retriever, unless the caller allows more


@dataclass(frozen=True)
class Found:
    """Items of the catalogue to be ranked.

    Attributes:
        items: RecBole's ids.
        retrieved: the retriever's scores of the whole catalogue; None without one. [1, n_items]
    """

    items: tuple[int, ...]
    retrieved: Tensor | None = None


class Search:
    """Searches the catalogue of a run.

    Args:
        config: of the run.
        test: its test split, which holds the rows of known users.
        reranking: of the run; None where its model scores every item.
        most_prompts: largest catalogue that is searched without a retriever.
    """

    def __init__(self, config: Config, test: Dataset, reranking: Reranking | None, most_prompts: int) -> None:
        self._config, self._test, self._reranking, self._most_prompts = config, test, reranking, most_prompts
        self._n_items = int(test.item_num)
        self._unknown = None if reranking is None else self._missing_column(reranking)

    def check(self, query: Query) -> None:
        """Refuse a query that cannot be answered.

        Raises:
            UserError: more items are wanted than are ranked, the catalogue would cost too many prompts, or the
                retriever reads a column that a history given by hand lacks.
        """
        assert query.k is not None
        if self._reranking is not None:
            if query.row is None:
                self._check_readable(query)
            if query.k > self._reranking.top_k:
                raise UserError(
                    f"k: {query.k} is more than the {self._reranking.top_k} items that the run's retriever finds for"
                    f" its language model (rerank_top_k): ask for {self._reranking.top_k} or fewer"
                )
        elif self._n_items - 1 > self._most_prompts:
            raise UserError(
                f"the run has no retriever, so a recommendation would read {self._n_items - 1:,} prompts, one for each"
                f" item; allowed are {self._most_prompts:,}: rank a shortlist, train with a retriever, or load with"
                f" most_prompts={self._n_items - 1}"
            )

    @property
    def n_searched(self) -> int:
        """The largest number of items that the language model scores for a query."""
        return self._n_items - 1 if self._reranking is None else self._reranking.top_k

    def found(self, query: Query) -> Found:
        """Items to be ranked: the retriever's best, or all; those of the history only if the query wants them."""
        past = set() if query.with_history else {one.number for one in query.history if one.number is not None}
        if self._reranking is None:
            return Found(tuple(i for i in range(1, self._n_items) if i not in past))
        scores = self._reranking.checked_scores(self._row(query))
        ranked = scores.clone()
        ranked[:, sorted(past)] = -torch.inf
        items = top_items(ranked, self._reranking.top_k, self._reranking.order)[0].tolist()
        return Found(tuple(i for i in items if i not in past), scores)

    def order(self, found: Found, log_odds: Sequence[float], resolution: float) -> list[float]:
        """The values that order the items as in the run's full ranking; larger is better."""
        if found.retrieved is None or self._reranking is None:
            return list(log_odds)
        items = torch.tensor([found.items], device=found.retrieved.device)
        new = torch.round(torch.tensor([log_odds], device=items.device) / resolution) * resolution
        order = reranked(found.retrieved, items, new, self._reranking.blend)[0]
        return order[items[0]].tolist()  # type: ignore[no-any-return]

    def _missing_column(self, reranking: Reranking) -> str | None:
        """The column beside items that the retriever reads, so that it cannot serve histories given by hand."""
        try:
            reranking.checked_scores(self._by_hand([1]))
        except KeyError as missing:
            return str(missing.args[0])
        return None

    def _check_readable(self, query: Query) -> None:
        if self._unknown is not None:
            raise UserError(
                f"the run's retriever reads '{self._unknown}', which a history given by hand lacks: recommend"
                " to a known user, or train with another retriever, such as SASRec or Pop"
            )
        if all(one.number is None for one in query.history):
            raise UserError(
                "the run's retriever reads items by their ids, and the history holds none of the catalogue: rank a"
                " shortlist, or add an item of the catalogue to the history"
            )

    def _row(self, query: Query) -> Interaction:
        """The user's row of the test, or one made of the items of the catalogue in a history given by hand."""
        if query.row is not None:
            return self._test[np.array([query.row])]
        return self._by_hand([one.number for one in query.history if one.number is not None])

    def _by_hand(self, numbers: list[int]) -> Interaction:
        window = int(self._config["MAX_ITEM_LIST_LENGTH"])
        numbers = numbers[-window:]
        sequence = torch.zeros(1, window, dtype=torch.long)
        sequence[0, : len(numbers)] = torch.tensor(numbers)
        column = self._config["ITEM_ID_FIELD"] + self._config["LIST_SUFFIX"]
        return Interaction({column: sequence, self._config["ITEM_LIST_LENGTH_FIELD"]: torch.tensor([len(numbers)])})
