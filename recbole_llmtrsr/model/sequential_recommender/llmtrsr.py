"""LLMTRSR: a causal LM reads a preference summary, recent items and a candidate, and answers yes or no."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import EvaluatorType, InputType
from torch import Tensor

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.engine.language_loss import language_loss
from recbole_llmtrsr.engine.meter import Meter, MeteredStage, separate_rows_work, shared_rows_work
from recbole_llmtrsr.engine.operations import Work
from recbole_llmtrsr.engine.rows import GroupedPrompts, TokenIds
from recbole_llmtrsr.engine.scorer import Scorer
from recbole_llmtrsr.engine.scoring import scores_with_gradients
from recbole_llmtrsr.engine.token_batches import even_batches, token_batches
from recbole_llmtrsr.engine.token_budget import TokenBudget
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.assembly import assemble, recommender_templates
from recbole_llmtrsr.model.grouped_rows import GroupedInteraction, GroupedRows
from recbole_llmtrsr.model.language_model_recommender import LanguageModelRecommender, is_served
from recbole_llmtrsr.model.served import check_scorer
from recbole_llmtrsr.model.values import Values, check_labels
from recbole_llmtrsr.prompt.builder import PromptBuilder


class Reranker(Protocol):
    """Retrieves candidates before full ranking."""

    def scores(self, interaction: Interaction, rank: Callable[[list[int], Tensor], Tensor]) -> Tensor:
        """The order of the catalogue, as scores; `rank` scores the retrieved items. fp32 [B, n_items]"""


class LLMTRSR(LanguageModelRecommender):
    """Ranks candidates by P(yes) of a causal language model.

    A prompt contains the preference summary of a history, its recent items and one candidate; the model scores the
    candidate by the log-odds of yes against no at the answer slot.

    Args:
        config: the configuration of the run.
        dataset: the data set with the training rows, item texts and summaries.

    Attributes:
        reads_candidates: whether scoring an item takes a prompt of its text; full ranking then scores one prompt per
            item.
        score_resolution: rounding in the engine (other batches, another back-end) can cause smaller differences
            between scores; the evaluation treats such scores as tied.
        meter: counts the tokens processed so far, by stage ('train', 'evaluation').
        budgets: tokens per forward pass in 'training' and 'evaluation'.
        reranking: the retrieval step before full ranking, set by `rerank_with`; None scores every item.
        values: converts log-odds to predicted labels; returns them unchanged for rankings.
        attention_refused: by name, the reasons why faster attention back-ends are not in use.
        served: the scorer of a model behind a server; None if the backbone scores.

    Source:
        Zheng et al., "Harnessing Large Language Models for Text-Rich Sequential Recommendation" (WWW 2024).

    Deviation:
        by default, the loss covers the answer token only and compares each target of a history with the negatives
        (``loss_on``, ``objective``); a prompt may hold several targets (``targets_per_prompt``); scores are fp32
        log-odds, whose sigmoid is P(yes).
    """

    input_type = InputType.POINTWISE
    score_resolution = 2.0**-16
    reads_candidates = True
    divides_batches = True

    def __init__(self, config: Config, dataset: LLMTRSRDataset) -> None:
        self.check_config(config)
        super().__init__(config, dataset)
        self.settings = config.settings
        parts = assemble(self.settings, dataset, self.device, config["seed"])
        self.backbone, self.prompts = parts.backbone, parts.prompts
        self.yes_id, self.no_id = parts.yes_id, parts.no_id
        self.label_field = config["LABEL_FIELD"]
        self.values = Values.of(config, dataset)
        self.meter = Meter(self.backbone)
        self.attention_refused = dict(parts.attention_refused)
        max_tokens = self.settings.backbone.max_tokens_per_batch
        self.budgets = {stage: TokenBudget(max_tokens, self.device, stage) for stage in ("training", "evaluation")}
        self.served = parts.served
        self._scorer = Scorer(self.backbone, self.yes_id, self.no_id, self.budgets["evaluation"])
        if self.served is not None:
            self.meter.not_counted = "the model is behind a server, whose operations are not known"
        self.reranking: Reranker | None = None
        # Not an attribute of the module by name, lest a checkpoint or a copy of the model carry the data set along.
        self._history: Callable[[int], Sequence[int]] = dataset.histories.__getitem__  # type: ignore[assignment]
        self._summary: Callable[[int], str] = dataset.summary

    @classmethod
    def check_config(cls, config: Config) -> None:
        """Check the options before any work starts.

        Raises:
            UserError: there are no training negatives, the templates are faulty or unused, or a retriever is set
                although nothing is retrieved.
        """
        recommender_templates(config.settings)
        if is_served(config):
            check_scorer(config)
        modes, retrieval = config["eval_args"]["mode"], config.settings.retrieval
        ranked = ("valid", "test") if retrieval.blend is None else ("test",)
        if retrieval.retriever is not None and any(modes[split] != "full" for split in ranked):
            why = " (blend: ~ is tuned on the former)" if retrieval.blend is None else ""
            raise UserError(
                f"retriever searches the whole catalogue, but eval_args mode ranks {modes['valid']} in validation and"
                f" {modes['test']} in the test{why}: set eval_args: {{mode: full}}, or remove the retriever"
            )
        if config["eval_type"] == EvaluatorType.VALUE:
            check_labels(config)
        elif config.settings.training.objective == "regression":
            raise UserError(
                f"objective: regression predicts labels, but metrics {config['metrics']} measure rankings: set metrics:"
                " [RMSE, MAE] and eval_args: {mode: labeled}, or objective: listwise"
            )
        elif config["train_neg_sample_args"]["distribution"] == "none":
            raise UserError(
                f"train_neg_sample_args: ~ leaves {cls.__name__} without negatives to train on: set"
                " train_neg_sample_args: {distribution: uniform, sample_num: 8}"
            )

    def rerank_with(self, reranking: Reranker | None) -> None:
        """Make full ranking score only retrieved items; with None it scores every item."""
        self.reranking = reranking

    def resumable_parts(self) -> dict[str, Any]:
        """Counts of tokens and of trimmed prompts, and the token budgets that fit into memory."""
        return {"meter": self.meter, "prompts": self.prompts, **self.budgets}

    @contextmanager
    def reading(
        self, prompts: PromptBuilder, summary: Callable[[int], str], history: Callable[[int], Sequence[int]]
    ) -> Iterator[None]:
        """Return a context in which the model reads other prompts, which the meter does not count.

        Args:
            prompts: builder of the prompts; it must not have built prompts of other summaries or histories.
            summary: preference summary of a history id.
            history: item ids of a history id, oldest first.
        """
        own, mark = (self.prompts, self._summary, self._history), self.meter.mark()
        self.prompts, self._summary, self._history = prompts, summary, history
        try:
            yield
        finally:
            # Restore the prompts last: after an error, a thread may still build prefetched batches, and the model's
            # cache must only hold prompts with the model's summaries.
            _, self._summary, self._history = own
            self.prompts = own[0]
            self.meter.back_to(mark)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Compute the training loss of a batch; the candidates of a history share one prefix.

        Args:
            interaction: rows of a history, an item and its label.

        Returns:
            The mean over histories (listwise), rows (pointwise, regression) or tokens (``loss_on: full``). []
        """
        rows = self._grouped(interaction)
        labels = rows.table(interaction[self.label_field].float().cpu())  # [B, C]
        if self.settings.training.loss_on == "full":
            answers = torch.where(labels > 0, self.yes_id, self.no_id)
            loss = language_loss(self.backbone, rows.prompts, answers.tolist())
            self._count("train", rows.prompts)
            return loss
        scores = scores_with_gradients(self.backbone, rows.prompts, self.yes_id, self.no_id)  # [B, C]
        self._count("train", rows.prompts)
        labels, real = labels.to(scores.device), scores != float("-inf")  # nan stays, so that the trainer reports it
        if self.settings.training.objective == "regression":
            return F.mse_loss(self.values(scores[real]), labels[real])
        if self.settings.training.objective == "pointwise":
            return F.binary_cross_entropy_with_logits(scores[real], labels[real])
        # Each target competes with the negatives only, not with other targets of its history.
        history, slot = torch.nonzero(labels > 0, as_tuple=True)  # [n_targets]
        others = (labels > 0)[history]
        others[torch.arange(len(slot), device=slot.device), slot] = False
        chosen = F.log_softmax(scores[history].masked_fill(others, float("-inf")), dim=1).gather(1, slot[:, None])[:, 0]
        return -(chosen / labels.sum(1)[history]).sum() / len(labels)

    def micro_batches(self, interaction: Interaction, n_shards: int = 1) -> list[tuple[Interaction, float]]:
        """Split a training batch into parts that fit the budget; all rows of a history stay together.

        Args:
            n_shards: number of shards that take the parts in turn; the parts have nearly equal sizes.

        Returns:
            Each part with its weight in the loss, which is a mean over histories, rows (pointwise) or tokens (full).
        """
        rows = self._grouped(interaction)
        sizes, most = self._sizes(rows.prompts), self.budgets["training"].max_tokens
        parts = list(token_batches(sizes, most) if n_shards == 1 else even_batches(sizes, most, n_shards))
        if len(parts) == 1:
            return [(GroupedInteraction(interaction, rows), 1.0)]
        terms = np.array([self._n_terms(*one) for one in zip(rows.prompts.prefixes, rows.prompts.candidates)])
        divided = [rows.part(part) for part in parts]
        shares = [terms[part].sum() / terms.sum() for part in parts]
        return [(GroupedInteraction(interaction[own], one), share) for (own, one), share in zip(divided, shares)]

    def halve_training_budget(self, interactions: Sequence[Interaction]) -> None:
        """Halve the training budget after running out of memory; a UserError if the parts were single histories."""
        sizes = [self._sizes(self._grouped(interaction).prompts) for interaction in interactions]
        self.budgets["training"].halve(max(map(sum, sizes)), max(map(max, sizes)))

    def prepare(self, interaction: Interaction) -> GroupedInteraction:
        """Group a batch by history and build its prompts, on another thread and before its turn."""
        return GroupedInteraction(interaction, self._grouped(interaction))

    def predict(self, interaction: Interaction) -> Tensor:
        """Compute fp32 log-odds of yes for every row, or P(yes) or a rating if labels are predicted. [batch_size]"""
        rows = self._grouped(interaction)
        return self.values(self.log_odds(rows.prompts)[rows.history, rows.slot])

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Compute fp32 log-odds of every item or, with a retriever, scores of the re-ranked order.

        Returns:
            Scores, flattened as RecBole expects; -inf for the padding item. [batch_size * n_items]
        """
        if self.reranking is not None:
            return self.reranking.scores(interaction, self.rank).view(-1)
        prefixes = [self._prefix(i) for i in _history_ids(interaction).tolist()]
        items = [self.prompts.candidate(item) for item in range(1, self.n_items)]  # 0 is the padding
        scores = self.log_odds(GroupedPrompts(prefixes, [items] * len(prefixes)))
        return F.pad(scores, (1, 0), value=float("-inf")).view(-1)

    def rank(self, history_ids: Sequence[int], items: Tensor) -> Tensor:
        """Compute fp32 log-odds of the given items for every history. [B, k] -> [B, k]"""
        candidates = [[self.prompts.candidate(item) for item in own] for own in items.tolist()]
        return self.log_odds(GroupedPrompts([self._prefix(i) for i in history_ids], candidates))

    def log_odds(self, prompts: GroupedPrompts) -> Tensor:
        """Compute fp32 log-odds of any prompts; -inf where a history has fewer candidates. [B, C]"""
        if self.served is not None:
            before = self.served.tokens_read
            scores = self.served.scores(prompts).to(self.device)
            work = Work(tokens=self.served.tokens_read - before)  # stored scores take no tokens
            self.meter.count("evaluation", work, len(prompts), int(prompts.counts.sum()))
            return scores
        scores = self._scorer.scores(prompts)
        self._count("evaluation", prompts)
        return scores

    def _sizes(self, prompts: GroupedPrompts) -> list[int]:
        """Number of training tokens of each history; separate rows are padded to the longest row of the batch."""
        if not self.backbone.is_unpacked:
            return prompts.sizes(rows_apart=False)
        width = max(len(prefix) + max(map(len, own)) for prefix, own in zip(prompts.prefixes, prompts.candidates))
        return [len(own) * width for own in prompts.candidates]

    def count_training(self, interaction: Interaction) -> None:
        """Count a part of a training batch, whichever process computes it."""
        self._count("train", self._grouped(interaction).prompts)

    def _n_terms(self, prefix: TokenIds, candidates: Sequence[TokenIds]) -> int:
        """Number of terms that each history contributes to the mean loss."""
        if self.settings.training.loss_on == "full":
            return sum(len(prefix) + len(section) for section in candidates)
        return 1 if self.settings.training.objective == "listwise" else len(candidates)

    def _grouped(self, interaction: Interaction) -> GroupedRows:
        """The rows of a batch, grouped by history; prefetched batches are grouped already."""
        if isinstance(interaction, GroupedInteraction):
            return interaction.grouped
        items = interaction[self.ITEM_ID].cpu().numpy()
        return GroupedRows.of(_history_ids(interaction), items, self._prefix, self.prompts.candidate)

    def _prefix(self, history_id: int) -> TokenIds:
        return self.prompts.prefix(history_id, self._summary(history_id), self._history(history_id))

    def _count(self, stage: MeteredStage, prompts: GroupedPrompts) -> None:
        is_apart = self.backbone.attention == "plain" or (stage == "train" and self.backbone.is_unpacked)
        work = (separate_rows_work if is_apart else shared_rows_work)(prompts)
        if stage == "train" and self.settings.training.loss_on == "full":
            work = replace(work, logits=work.tokens * self.backbone.vocab_size)
        self.meter.count(stage, work, len(prompts), int(prompts.counts.sum()))


def _history_ids(interaction: Interaction) -> np.ndarray:
    if HISTORY_ID not in interaction:
        raise UserError(
            "LLMTRSR needs rows with a history_id: run the model with run_recbole_llmtrsr, or build the data with"
            " recbole_llmtrsr.data.dataset.LLMTRSRDataset"
        )
    return np.asarray(interaction[HISTORY_ID].cpu().numpy())
