"""Recommender: a trained run as an object that ranks, recommends and explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from recbole_llmtrsr.engine.rows import GroupedPrompts
from recbole_llmtrsr.explain import Explanation
from recbole_llmtrsr.explain.explain import explain_history
from recbole_llmtrsr.explain.explanation import ExplainedItem
from recbole_llmtrsr.llm.make_backbone import autocast
from recbole_llmtrsr.prompt.builder import PromptBuilder
from recbole_llmtrsr.recommend.known_users import KnownUsers
from recbole_llmtrsr.recommend.queries import GivenItem, Query, QueryItem, QueryParser
from recbole_llmtrsr.recommend.ranking import RankedItem, Ranking, ranks
from recbole_llmtrsr.recommend.saved_run import SavedRun, load_run
from recbole_llmtrsr.recommend.search import MOST_PROMPTS, Found, Search
from recbole_llmtrsr.recommend.writing import SummaryService


class Recommender:
    """Ranks items for any history by the model of a run, with the scores that its test would give.

    Items are named by their ids (of the .item file), or given as texts: a mapping of the run's text columns, such as
    ``{"title": "Oak chair"}``, with an id of its own under the id column's name if it is to have one. A history is a
    list of items, oldest first, or a user's id, which stands for the user's history as the test saw it.

    Summaries that are missing are written by the run's own summarizer and kept in its store. One thread at a time may
    ask; ``query`` and ``search_query`` may be called by others meanwhile.

    Args:
        run: read back from its folder.
        most_prompts: largest catalogue that is searched without a retriever.

    Attributes:
        label: the run's row in a comparison.
        dataset: name of its data set.
        n_items: of its catalogue.
        text_columns: of the items, in their order.
    """

    def __init__(self, run: SavedRun, most_prompts: int = MOST_PROMPTS) -> None:
        dataset, model = run.dataset, run.model
        self.label, self.dataset, self.n_items = run.label, str(run.config["dataset"]), int(dataset.item_num) - 1
        self.text_columns: tuple[str, ...] = tuple(dataset.item_text.columns)
        self._config, self._model = run.config, model
        self._users = KnownUsers(dataset, run.test)
        self._door = QueryParser(dataset.item_text, dataset.item_tokens, dataset.iid_field, self._users)
        self._office = SummaryService(run.config, dataset)
        self._search = Search(run.config, run.test, model.reranking, most_prompts)

    @classmethod
    def load(
        cls,
        run_folder: str | Path,
        *,
        options: Mapping[str, Any] | None = None,
        checkpoint: str | Path | None = None,
        most_prompts: int = MOST_PROMPTS,
    ) -> Recommender:
        """Read a run back from its result folder; paths that it names are relative to where it was started.

        Args:
            run_folder: holds the run's result.json.
            options: where this machine differs from the run's: ``data_path``, ``summary_store``, ``use_gpu`` and other
                places; what would change scores is refused.
            checkpoint: the run's .pth file, where it was moved.
            most_prompts: largest catalogue that ``recommend`` searches without a retriever, a prompt for each item.

        Raises:
            UserError: no run, one of a model that reads no candidates, no checkpoint, or data, texts or a tokenizer
                that are not those of then.
        """
        run = load_run(Path(run_folder), options or {}, None if checkpoint is None else Path(checkpoint))
        return cls(run, most_prompts)

    def rank(self, history: str | Sequence[GivenItem], candidates: Sequence[GivenItem]) -> Ranking:
        """Rank candidates for a history.

        Args:
            history: a user's id, or items, oldest first; repeated ones count as often as they occur.
            candidates: items, each id once; those of the history may be among them.

        Raises:
            UserError: with every fault found: an unknown user or item, nothing to rank or to rank by, an id twice.
        """
        return self.answer([self.query(history, candidates)])[0]

    def rank_many(self, questions: Sequence[tuple[str | Sequence[GivenItem], Sequence[GivenItem]]]) -> list[Ranking]:
        """Rank several lists of candidates, each for a history of its own, in common forward passes.

        Raises:
            UserError: as ``rank``; nothing is ranked then.
        """
        return self.answer([self.query(*question) for question in questions])

    def recommend(self, history: str | Sequence[GivenItem], k: int = 10, *, with_history: bool = False) -> Ranking:
        """The k best items of the catalogue.

        With a retriever in the run its best items are re-ranked as in its test, those of the history left out before;
        it knows ids alone, so texts given by hand are read by the language model only. Without one every item takes a
        prompt. There are fewer than k where the catalogue ends.

        Args:
            history: a user's id, or items, oldest first.
            k: how many.
            with_history: recommend items of the history again.

        Raises:
            UserError: as ``rank``; more than the retriever finds; a catalogue of more than ``most_prompts`` items; a
                history that the retriever cannot read.
        """
        return self.answer([self.search_query(history, k, with_history=with_history)])[0]

    def explain(
        self, history: str | Sequence[GivenItem], candidates: Sequence[GivenItem], *, shown: int | None = None
    ) -> Explanation:
        """Tell how a ranking came about: blocks, summary, prompt and scores.

        Args:
            history: as in ``rank``.
            candidates: as in ``rank``.
            shown: position of the candidate whose prompt is told, from 0; None tells the best one's.

        Returns:
            for ``recbole_llmtrsr.explain.text``, ``page`` and ``write_page``.

        Raises:
            UserError: as ``rank``.
            IndexError: no such candidate.
        """
        return self.explanation(self.query(history, candidates), shown)

    def history(self, user: str, *, whole: bool = False) -> list[str]:
        """Ids of the items in a user's history, oldest first.

        Args:
            user: id.
            whole: all that is known, the test's target too; else what came before that, as the test saw it.

        Raises:
            UserError: no such user, none in the test, or (whole) one of a single event or of pre-split files.
        """
        numbers = self._users.whole(user) if whole else self._users.in_test(user)[1]
        return [str(self._door.known(number).token) for number in numbers]

    def query(self, history: str | Sequence[GivenItem], candidates: Sequence[GivenItem]) -> Query:
        """A checked question for ``answer``; errors as ``rank``."""
        return self._door.ranking(history, candidates)

    def search_query(self, history: str | Sequence[GivenItem], k: int = 10, *, with_history: bool = False) -> Query:
        """A checked question for ``answer``; errors as ``recommend``."""
        query = self._door.recommendation(history, k, with_history)
        self._search.check(query)
        return replace(query, n_searched=self._search.n_searched)

    def answer(self, queries: Sequence[Query]) -> list[Ranking]:
        """Answer several questions together; no answer depends on the others beyond rounding.

        Raises:
            UserError: a fault of the summarizer, its store or the retriever, or too little memory for one prompt.
        """
        found = [None if query.k is None else self._search.found(query) for query in queries]
        asked = [
            query if one is None else replace(query, candidates=tuple(map(self._door.known, one.items)))
            for query, one in zip(queries, found)
        ]
        summaries = self._office.summaries(asked)
        scored = self._scored(asked, [summary.text for summary in summaries])
        made = [self._ranking(*one) for one in zip(asked, found, scored, strict=True)]
        return [replace(one, is_replaced=summary.is_replaced) for one, summary in zip(made, summaries, strict=True)]

    def explanation(self, query: Query, shown: int | None = None) -> Explanation:
        """Tell how the ranking of given candidates came about; errors as ``explain``."""
        told = self._office.traced(query)
        scored = self._scored([query], [told.summaries[0]])[0]
        if shown is None:
            shown = ranks(scored.log_odds, self._model.score_resolution)[0][0]
        elif not 0 <= shown < len(query.candidates):
            raise IndexError(f"shown: {shown} is no position among {len(query.candidates)} candidates")
        made = explain_history(
            self._config,
            scored.explained,
            scored.history,
            scored.candidates[shown],
            scored.summary if self._office.is_on else None,
            told.calls_of(0),
            scored.prompts,
            dict(zip(scored.candidates, scored.log_odds, strict=True)),
        )
        return made if query.user is None else replace(made, user=query.user)

    @torch.no_grad()
    def _scored(self, queries: Sequence[Query], summaries: Sequence[str]) -> list[_Scored]:
        """Log-odds of all candidates, in the precision of the test."""
        items = [one for query in queries for one in (*query.history, *query.candidates)]
        n_recent = self._config.settings.prompt.n_recent_items
        # Of a history no prompt shows more than the recent items, so the others need no tokens.
        hidden = [place < len(query.history) - n_recent for query in queries for place in range(query.n_items)]
        lines = ["" if is_hidden else one.item.line for one, is_hidden in zip(items, hidden, strict=True)]
        prompts = self._model.prompts.for_items(lines)
        scored, prefixes, sections, first = [], [], [], 0
        for number, (query, summary) in enumerate(zip(queries, summaries, strict=True)):
            middle = first + len(query.history)
            last = middle + len(query.candidates)
            history, candidates = range(first, middle), range(middle, last)
            prefixes.append(prompts.prefix(number, summary, history))
            n = len(prefixes[-1])
            sections.append([prompts.candidate(i, n) for i in candidates])
            cut = [prompts.tokens_cut(i, n) for i in candidates]
            scored.append(_Scored(prompts, items, history, candidates, summary, number in prompts.trimmed, cut))
            first = last
        if not any(sections):  # the history holds the whole catalogue
            return scored
        with autocast(self._config.settings.backbone.precision, self._model.device):
            table = self._model.log_odds(GroupedPrompts(prefixes, sections)).float().cpu()
        return [replace(one, log_odds=row[: len(one.candidates)].tolist()) for one, row in zip(scored, table)]

    def _ranking(self, query: Query, found: Found | None, scored: _Scored) -> Ranking:
        resolution = self._model.score_resolution
        if not query.candidates:
            order = []
        elif found is None:
            order = ranks(scored.log_odds, resolution)
        else:
            compared = self._search.order(found, scored.log_odds, resolution)
            order = ranks(compared, resolution if found.retrieved is None else None)[: query.k]
        log_odds = torch.tensor(scored.log_odds)
        values, p_yes = self._model.values(log_odds).tolist(), log_odds.sigmoid().tolist()
        items = [
            RankedItem(
                query.candidates[place].token,
                place if found is None else None,
                query.candidates[place].item.line,
                values[place],
                p_yes[place],
                rank,
                scored.tokens_cut[place],
            )
            for place, rank in order
        ]
        is_retrieved = found is not None and found.retrieved is not None and query.row is None
        n_unread = sum(one.number is None for one in query.history) if is_retrieved else 0
        summary = scored.summary if self._office.is_on else None
        return Ranking(tuple(items), summary, len(query.history), scored.is_trimmed, n_unread=n_unread)


@dataclass(frozen=True)
class _Scored:
    """A question's prompts and scores; its items are numbered as the prompts have them."""

    prompts: PromptBuilder
    items: Sequence[QueryItem]
    history: range
    candidates: range
    summary: str
    is_trimmed: bool
    tokens_cut: Sequence[int]
    log_odds: Sequence[float] = ()

    def explained(self, number: int) -> ExplainedItem:
        """An item as an explanation names it: a text without an id by its place in its list."""
        one = self.items[number]
        place = self.candidates if number in self.candidates else self.history
        return ExplainedItem(one.token or f"by hand #{place.index(number) + 1}", one.item.line)
