"""What each ablation changes in the prompts of the test."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.assembly import prompt_builder, recommender_templates
from recbole_llmtrsr.model.sequential_recommender.llmtrsr import LLMTRSR
from recbole_llmtrsr.prompt.builder import PromptBuilder


@dataclass(frozen=True)
class ChangedPrompts:
    """A builder of prompts, and the texts and items that it is given.

    Attributes:
        builder: makes the prompts from the two below alone.
        summary: preference summary of a history id.
        history: item ids of a history id, oldest first.
    """

    builder: PromptBuilder
    summary: Callable[[int], str]
    history: Callable[[int], Sequence[int]]

    def prefix(self, history_id: int) -> npt.NDArray[np.int32]:
        """Ids of everything before the candidate."""
        return self.builder.prefix(history_id, self.summary(history_id), self.history(history_id))


class TrainedModel:
    """A trained model, the split it was tested on, which holds the summaries, and the seed of what ablations draw.

    Attributes:
        history_ids: by row of the split.
        users: by row of the split.
    """

    def __init__(self, model: LLMTRSR, dataset: LLMTRSRDataset, seed: int) -> None:
        self.dataset, self.seed, self.settings = dataset, seed, model.settings
        self.history_ids: list[int] = dataset.inter_feat[HISTORY_ID].tolist()
        self.users: list[int] = dataset.inter_feat[dataset.uid_field].tolist()
        self._tokenizer = model.backbone.tokenizer

    def prompts(
        self,
        *,
        summary: Callable[[int], str] | None = None,
        history: Callable[[int], Sequence[int]] | None = None,
        texts: Sequence[str] | None = None,
        paraphrased: bool = False,
    ) -> ChangedPrompts:
        """ChangedPrompts as in the test, but for what is given; made anew, since a builder keeps what it made.

        Raises:
            UserError: the prompt limit has no room for the texts or the paraphrase.
        """
        templates = recommender_templates(self.settings)
        builder = prompt_builder(
            self.settings,
            templates.paraphrased() if paraphrased else templates,
            self._tokenizer,
            texts or [self.dataset.item(i).line for i in range(self.dataset.item_num)],
        )
        own: Callable[[int], Sequence[int]] = self.dataset.histories.__getitem__  # type: ignore[assignment]
        return ChangedPrompts(builder, summary or self.dataset.summary, history or own)

    @property
    def has_summary(self) -> bool:
        """Whether prompts have a summary section."""
        return bool(self.settings.summary.summary != "none")


def _shuffled_history(tested: TrainedModel) -> ChangedPrompts:
    """The whole history in an order drawn for it, so that other items become the recent ones; the summary stays."""
    _check_recent_items(tested)

    def shuffled(history_id: int) -> list[int]:
        history = tested.dataset.histories[history_id]
        return np.random.default_rng((tested.seed, history_id)).permutation(history).tolist()

    return tested.prompts(history=shuffled)


def _no_summary(tested: TrainedModel) -> ChangedPrompts:
    """'none' in place of the summary, as where a history has none; the recent items stay."""
    _check_summary(tested)
    return tested.prompts(summary=lambda history_id: "")


def _no_recent_items(tested: TrainedModel) -> ChangedPrompts:
    """'none' in place of the recent items, as where a history is empty; the summary stays."""
    _check_recent_items(tested)
    return tested.prompts(history=lambda history_id: ())


def _another_users_summary(tested: TrainedModel) -> ChangedPrompts:
    """A summary that another user has in the test; a history without one stays without. The recent items stay."""
    _check_summary(tested)
    own = [tested.dataset.summary(i) for i in tested.history_ids]
    drawn = others_texts(tested.users, tested.history_ids, own, tested.seed)
    return tested.prompts(summary=dict(zip(tested.history_ids, drawn, strict=True)).__getitem__)


def _ids_instead_of_texts(tested: TrainedModel) -> ChangedPrompts:
    """Recent items and candidates as their ids in the user's files instead of their texts; the summary stays."""
    return tested.prompts(texts=tested.dataset.item_tokens)


def _paraphrased_instruction(tested: TrainedModel) -> ChangedPrompts:
    """The instruction in other words; all else stays."""
    suffix = "" if tested.has_summary else "_without_summary"
    overrides = tested.settings.prompt.prompt_templates
    if f"instruction{suffix}" in overrides and f"paraphrase{suffix}" not in overrides:
        raise UserError(
            f"prompt_templates replaces instruction{suffix} and gives no paraphrase of it: replace paraphrase{suffix}"
        )
    return tested.prompts(paraphrased=True)


ABLATIONS: dict[str, Callable[[TrainedModel], ChangedPrompts]] = {
    "shuffled history": _shuffled_history,
    "no summary": _no_summary,
    "no recent items": _no_recent_items,
    "another user's summary": _another_users_summary,
    "ids instead of texts": _ids_instead_of_texts,
    "paraphrased instruction": _paraphrased_instruction,
}


def _check_summary(tested: TrainedModel) -> None:
    if not tested.has_summary:
        raise UserError("the prompts have no summary (summary: none)")


def _check_recent_items(tested: TrainedModel) -> None:
    if tested.settings.prompt.n_recent_items == 0:
        raise UserError("the prompts have no recent items (n_recent_items: 0)")


def others_texts(users: Sequence[Hashable], history_ids: Sequence[int], texts: Sequence[str], seed: int) -> list[str]:
    """Draw, for the text of each row, one of another user that the row's user does not have, all rows equally likely.

    An empty text stays as it is, and is never drawn. The history ids and the seed determine the draws.

    Raises:
        UserError: a row has nothing to draw from.

    >>> others_texts(["ann", "ann", "bo", "bo"], [1, 2, 3, 4], ["tea", "tea", "salt", ""], seed=0)
    ['salt', 'salt', 'tea', '']
    """
    pool = sorted(text for text in texts if text)
    if not pool:
        raise UserError("no history has a summary")
    n_with = Counter(pool)
    own: dict[Hashable, set[str]] = {user: set() for user in users}
    for user, text in zip(users, texts):
        own[user].add(text)
    n_others = {user: len(pool) - sum(n_with[text] for text in held) for user, held in own.items()}
    n_without = sum(n_others[user] == 0 for user, text in zip(users, texts) if text)
    if n_without:
        raise UserError(
            f"for {n_without} of {len(pool)} summaries, no other user has one that is not also their user's"
        )
    return [
        _drawn(pool, own[user], int(np.random.default_rng((seed, history_id)).integers(n_others[user]))) if text else ""
        for user, history_id, text in zip(users, history_ids, texts)
    ]


def _drawn(pool: Sequence[str], own: Collection[str], place: int) -> str:
    """The text at a place of the sorted pool from which the user's own texts are removed."""
    for text in sorted(own):
        begin, end = bisect_left(pool, text), bisect_right(pool, text)
        if begin <= place:
            place += end - begin
    return pool[place]
