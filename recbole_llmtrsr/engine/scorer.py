"""Scoring of any number of histories and candidates, with a bounded number of tokens per forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn

from recbole_llmtrsr.engine.cached_prefix import score_cached_prefix
from recbole_llmtrsr.engine.rows import GroupedPrompts, KeysAndValues, TokenIds, plain_rows, shared_prefix_rows
from recbole_llmtrsr.engine.scoring import score_plain, score_shared_prefix
from recbole_llmtrsr.engine.token_batches import candidate_chunks, dealt, token_batches
from recbole_llmtrsr.engine.token_budget import TokenBudget
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.runtime import processes


class Scorer:
    """Scores without gradients, with the back-end that `backbone.attention` names.

    Histories of similar length share a forward pass of as many tokens as the budget allows. If a single history exceeds
    the budget, its candidates are scored in chunks over the cached keys and values of its prefix, which leaves every
    score unchanged. When memory runs out, the scorer halves the budget and repeats the pass.

    Args:
        backbone: the backbone that scores.
        yes_id, no_id: token ids of the answers.
        budget: bound on the tokens of a forward pass, including padding if the back-end pads.
        shares_out: whether several processes divide the histories among them; each returns all scores.
    """

    def __init__(
        self, backbone: Backbone, yes_id: int, no_id: int, budget: TokenBudget, *, shares_out: bool = True
    ) -> None:
        self._backbone, self._yes_id, self._no_id = backbone, yes_id, no_id
        self.budget, self._shares_out = budget, shares_out

    @torch.no_grad()
    def scores(self, prompts: GroupedPrompts) -> Tensor:
        """Compute the log-odds of all candidates of every history.

        Returns:
            Scores, float32 [B, C]; -inf in slots without a candidate.

        Raises:
            ValueError: see `GroupedPrompts.counts`.
            UserError: if memory runs out even with a single candidate.
        """
        table = torch.full((len(prompts), int(prompts.counts.max())), float("-inf"), device=self._backbone.device)
        sizes = self._sizes(prompts)
        n, rank = (processes.count(), processes.rank()) if self._shares_out else (1, 0)
        shares = [[i for i in share if sizes[i]] for share in dealt(sizes, n)]
        with self._backbone.in_step() if n > 1 else nullcontext():
            self._fill(table, shares[rank], prompts, sizes)
        if n > 1:
            for share, scores in zip(shares, processes.all_gather(table[shares[rank]].cpu()), strict=True):
                table[share] = scores.to(table.device)
        return table

    def _fill(self, table: Tensor, waiting: list[int], prompts: GroupedPrompts, sizes: list[int]) -> None:
        """Write the scores of the histories in `waiting` into the table [B, C]."""
        while waiting:
            done: set[int] = set()
            for batch in token_batches([sizes[i] for i in waiting], self.budget.max_tokens):
                chosen = [waiting[i] for i in batch]
                try:
                    scores = self._batch(prompts.chosen(chosen))
                except RuntimeError as error:
                    if not should_reduce_batch_size(error):
                        raise
                    break
                table[chosen, : scores.shape[1]] = scores
                done.update(chosen)
            else:
                return
            # Outside the except clause, the error no longer references the tensors of the failed pass.
            self._halve_budget(prompts.chosen(chosen))
            waiting = [i for i in waiting if i not in done]

    def _halve_budget(self, failed: GroupedPrompts) -> None:
        if self._backbone.is_divided:
            raise UserError(
                f"process {processes.rank()} of {processes.count()} is out of memory, and cannot repeat the pass alone"
                f" because the weights are sharded: lower max_tokens_per_batch (it was {self.budget.max_tokens})"
            )
        self.budget.halve(sum(self._sizes(failed)), max(map(self._n_least, failed.prefixes, failed.candidates)))

    def _batch(self, prompts: GroupedPrompts) -> Tensor:
        ids = (self._yes_id, self._no_id)
        if self._backbone.attention == "cached_prefix":
            return score_cached_prefix(self._backbone, prompts, *ids, self.budget.max_tokens)
        if self._backbone.attention == "plain":
            rows = plain_rows(prompts, self._backbone.pad_id)
            return score_plain(self._backbone, rows, *ids, max(1, self.budget.max_tokens // rows.input_ids.shape[1]))
        if len(prompts) > 1 or self._sizes(prompts)[0] <= self.budget.max_tokens:
            return score_shared_prefix(self._backbone, shared_prefix_rows(prompts), *ids)
        return self._chunked(prompts)

    def _chunked(self, prompts: GroupedPrompts) -> Tensor:
        """Score one history [1, C] in chunks of candidates, of which only the first reads the prefix."""
        (prefix,), (candidates,) = prompts.prefixes, prompts.candidates
        kept: dict[nn.Module, KeysAndValues] = {}
        scores = torch.empty(1, len(candidates), device=self._backbone.device)
        for chunk in candidate_chunks(list(map(len, candidates)), len(prefix), self.budget.max_tokens):
            rows = shared_prefix_rows(GroupedPrompts([prefix], [[candidates[i] for i in chunk]]), kept)
            scores[:, chunk] = score_shared_prefix(self._backbone, rows, self._yes_id, self._no_id)
        return scores

    def _sizes(self, prompts: GroupedPrompts) -> list[int]:
        return prompts.sizes(rows_apart=self._backbone.is_unpacked)

    def _n_least(self, prefix: TokenIds, candidates: Sequence[TokenIds]) -> int:
        """Return the tokens of a history's largest pass that cannot be divided further."""
        lengths = list(map(len, candidates))
        if self._backbone.is_unpacked:
            return len(prefix) + max(lengths)
        return max(len(prefix) + min(lengths), max(lengths))
