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
from recbole_llmtrsr.llm.number_format import autocast
from recbole_llmtrsr.prompt.builder import PromptBuilder
from recbole_llmtrsr.recommend.known_users import KnownUsers
from recbole_llmtrsr.recommend.queries import GivenItem, Query, QueryItem, QueryParser
from recbole_llmtrsr.recommend.ranking import RankedItem, Ranking, ranks
from recbole_llmtrsr.recommend.saved_run import SavedRun, load_saved_run
from recbole_llmtrsr.recommend.search import MOST_PROMPTS, Found, Search
from recbole_llmtrsr.recommend.shown_explanation import ShownExplanation, shown_explanation
from recbole_llmtrsr.recommend.writing import SummaryService


class Recommender:
    """Ranks items for any history by the model of a run, with the scores that its test would give.

    Items are named by their ids (of the .item file), or given as texts: a mapping of the run's text columns, such as
    ``{"title": "Oak chair"}``, where the id column may hold an id for it. A history is a list of items, oldest first,
    or a user's id, which means the user's history in the test.

    The run's summarizer writes missing summaries, and its store keeps them. Only one thread at a time may rank or
    explain; ``query`` and ``search_query`` may be called by others meanwhile.

    Args:
        run: a loaded run; see ``load``.
        most_prompts: largest catalogue that is searched without a retriever.

    Attributes:
        label: the run's row in a comparison.
        dataset: name of its data set.
        n_items: number of items of its catalogue.
        text_columns: of the items, in their order.
    """

    def __init__(self, run: SavedRun, most_prompts: int = MOST_PROMPTS) -> None:
        dataset, model = run.dataset, run.model
        self.label, self.dataset, self.n_items = run.label, str(run.config["dataset"]), int(dataset.item_num) - 1
        self.text_columns: tuple[str, ...] = tuple(dataset.item_text.columns)
        self._config, self._model = run.config, model
        self._users = KnownUsers(dataset, run.test)
        self._parser = QueryParser(dataset.item_text, dataset.item_tokens, dataset.iid_field, self._users)
        self._summaries = SummaryService(run.config, dataset)
        self._search = Search(run.config, run.test, run.reranking, most_prompts)

    @classmethod
    def load(
        cls,
        run_folder: str | Path,
        *,
        options: Mapping[str, Any] | None = None,
        checkpoint: str | Path | None = None,
        most_prompts: int = MOST_PROMPTS,
    ) -> Recommender:
        """Load a run from its result folder; paths that it names are relative to where it was started.

        Args:
            run_folder: holds the run's result.json.
            options: what is elsewhere on this machine (``data_path``, ``summary_store``, ``use_gpu`` ...); options that
                would change scores are refused.
            checkpoint: the run's .pth file, if it was moved.
            most_prompts: largest catalogue that ``recommend`` searches without a retriever, a prompt for each item.

        Raises:
            UserError: no run, one of a model that reads no candidates, no checkpoint, or data, texts or a tokenizer
                other than the run's.
        """
        run = load_saved_run(Path(run_folder), options or {}, None if checkpoint is None else Path(checkpoint))
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
        """Rank several lists of candidates, each for its history, in common forward passes.

        Raises:
            UserError: as ``rank``; nothing is ranked then.
        """
        return self.answer([self.query(*question) for question in questions])

    def recommend(self, history: str | Sequence[GivenItem], k: int = 10, *, with_history: bool = False) -> Ranking:
        """The k best items of the catalogue.

        If the run has a retriever, its best items, without those of the history, are re-ranked as in the run's test; it
        reads ids only, so that texts given by hand reach the language model alone. Otherwise every item takes a prompt.
        A small catalogue gives fewer than k items.

        Args:
            history: a user's id, or items, oldest first.
            k: number of items.
            with_history: recommend items of the history again.

        Raises:
            UserError: as ``rank``; more than the retriever finds; a catalogue of more than ``most_prompts`` items; a
                history that the retriever cannot read.
        """
        return self.answer([self.search_query(history, k, with_history=with_history)])[0]

    def explain(
        self, history: str | Sequence[GivenItem], candidates: Sequence[GivenItem], *, shown: int | None = None
    ) -> ShownExplanation:
        """Explain a ranking: blocks, summary, prompt and scores.

        Args:
            history, candidates: as in ``rank``.
            shown: position of the candidate whose prompt is shown, from 0; None shows that of the best one.

        Returns:
            an explanation that a notebook shows as a page and ``print`` as text; ``recbole_llmtrsr.explain.write_page``
            writes it to a file.

        Raises:
            UserError: as ``rank``.
            IndexError: no such candidate.
        """
        return shown_explanation(self.explanation(self.query(history, candidates), shown))

    def history(self, user: str, *, whole: bool = False) -> list[str]:
        """Ids of the items in a user's history, oldest first.

        Args:
            user: id.
            whole: all events, the test's target among them; else those before it, as the test saw the history.

        Raises:
            UserError: no such user, none in the test, or (whole) one of a single event or of pre-split files.
        """
        numbers = self._users.whole(user) if whole else self._users.in_test(user)[1]
        return [str(self._parser.known(number).token) for number in numbers]

    @property
    def tested_users(self) -> list[str]:
        """Ids of all users of the test."""
        return self._users.tested

    def query(self, history: str | Sequence[GivenItem], candidates: Sequence[GivenItem]) -> Query:
        """A checked query for ``answer``; errors as ``rank``."""
        return self._parser.ranking(history, candidates)

    def search_query(self, history: str | Sequence[GivenItem], k: int = 10, *, with_history: bool = False) -> Query:
        """A checked query for ``answer``; errors as ``recommend``."""
        query = self._parser.recommendation(history, k, with_history)
        self._search.check(query)
        return replace(query, n_searched=self._search.n_searched)

    def answer(self, queries: Sequence[Query]) -> list[Ranking]:
        """Rank for several queries together; no ranking depends on the others beyond rounding.

        Raises:
            UserError: a fault of the summarizer, its store or the retriever, or too little memory for one prompt.
        """
        found = [None if query.k is None else self._search.found(query) for query in queries]
        completed = [
            query if one is None else replace(query, candidates=tuple(map(self._parser.known, one.items)))
            for query, one in zip(queries, found)
        ]
        summaries = self._summaries.summaries(completed)
        scored = self._scored(completed, [summary.text for summary in summaries])
        rankings = [self._ranking(*one) for one in zip(completed, found, scored, strict=True)]
        return [replace(one, is_replaced=summary.is_replaced) for one, summary in zip(rankings, summaries, strict=True)]

    def explanation(self, query: Query, shown: int | None = None) -> Explanation:
        """Explain the ranking of a query with candidates; errors as ``explain``."""
        traced = self._summaries.traced(query)
        scored = self._scored([query], [traced.summaries[0]])[0]
        if shown is None:
            shown = ranks(scored.log_odds, self._model.score_resolution)[0][0]
        elif not 0 <= shown < len(query.candidates):
            raise IndexError(f"shown: {shown} is no position among {len(query.candidates)} candidates")
        made = explain_history(
            self._config,
            scored.explained,
            scored.history,
            scored.candidates[shown],
            scored.summary if self._summaries.is_on else None,
            traced.calls_of(0),
            scored.prompts,
            dict(zip(scored.candidates, scored.log_odds, strict=True)),
        )
        return made if query.user is None else replace(made, user=query.user)

    @torch.no_grad()
    def _scored(self, queries: Sequence[Query], summaries: Sequence[str]) -> list[_Scored]:
        """Log-odds of all candidates, in the precision of the test."""
        items = [one for query in queries for one in (*query.history, *query.candidates)]
        n_recent = self._config.settings.prompt.n_recent_items
        # Prompts show only the recent items of a history, so the others need no tokens.
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
        with autocast(self._config.settings.backbone, self._model.device):
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
        summary = scored.summary if self._summaries.is_on else None
        return Ranking(tuple(items), summary, len(query.history), scored.is_trimmed, n_unread=n_unread)


@dataclass(frozen=True)
class _Scored:
    """The prompts and scores of a query; items are numbered as the prompts number them."""

    prompts: PromptBuilder
    items: Sequence[QueryItem]
    history: range
    candidates: range
    summary: str
    is_trimmed: bool
    tokens_cut: Sequence[int]
    log_odds: Sequence[float] = ()

    def explained(self, number: int) -> ExplainedItem:
        """An item of an explanation; a text without an id is named by its place in its list."""
        one = self.items[number]
        place = self.candidates if number in self.candidates else self.history
        return ExplainedItem(one.token or f"by hand #{place.index(number) + 1}", one.item.line)
