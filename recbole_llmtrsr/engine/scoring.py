"""The score of a candidate: the log-odds of yes against no.

    score = logit_yes - logit_no                        P(yes | yes or no) = sigmoid(score)
    logit_t = cap(scale * (h . w_t + b_t))

h is the hidden state at the last token of the prompt, w_t and b_t the row of answer token t in the output head. Only
these two rows are read, and in float32: in bfloat16 the logits of similar candidates tie.

Source: Zheng et al. (WWW 2024), the score of a candidate: the two-way softmax of the yes/no logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig

from recbole_llmtrsr.engine.attention.prefix_attention import PrefixAttention
from recbole_llmtrsr.engine.rows import GroupedPrompts, PlainRows, SharedPrefixRows, plain_rows, shared_prefix_rows
from recbole_llmtrsr.llm.backbone import Backbone


@dataclass(frozen=True)
class HeadScale:
    """A backbone multiplies h . w + b by `scale`, then squashes it into (-softcap, softcap)."""

    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, config: PretrainedConfig) -> HeadScale:
        """Read it from a transformers config: Granite divides, Cohere multiplies, Gemma 2 squashes."""
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        return cls(scale=scale, softcap=getattr(config, "final_logit_softcapping", None))

    def applied(self, logits: Tensor) -> Tensor:
        """cap(scale * logits)."""
        logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def answer_log_odds(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, yes_id: int, no_id: int, head: HeadScale = HeadScale()
) -> Tensor:
    """The formula above, of hidden states [..., H] and an output head [V, H]. float32 [...]"""
    answers = [yes_id, no_id]
    with torch.autocast(hidden.device.type, enabled=False):
        logits = F.linear(hidden.float(), weight[answers].float(), None if bias is None else bias[answers].float())
    logits = head.applied(logits)
    return logits[..., 0] - logits[..., 1]


def score_shared_prefix(backbone: Backbone, rows: SharedPrefixRows, yes_id: int, no_id: int) -> Tensor:
    """Score all candidates of every history in one pass over shared rows. float32 [B, C]; -inf at dummy slots"""
    rows = rows.to(backbone.device)
    at_answers = shared_prefix_states(backbone, rows)[rows.answer_tokens]  # [B, C, H]
    return log_odds(backbone, at_answers, yes_id, no_id).masked_fill(~rows.valid, float("-inf"))


def shared_prefix_states(backbone: Backbone, rows: SharedPrefixRows) -> Tensor:
    """Last hidden states of all tokens of shared rows. [N, H]"""
    states: Tensor = backbone.decoder(
        input_ids=rows.input_ids,
        position_ids=rows.position_ids,
        # Four dimensions mean "prepared" to transformers, which then neither builds an N x N mask nor reads restarting
        # positions as packed sequences. Empty, so that attention which would use it fails instead of misreading it.
        attention_mask=torch.empty(1, 1, 0, 0, dtype=torch.bool, device=rows.input_ids.device),
        shared_prefix=PrefixAttention(rows, backbone.attention),
        use_cache=False,
    ).last_hidden_state
    return states[0]


def scores_with_gradients(backbone: Backbone, prompts: GroupedPrompts, yes_id: int, no_id: int) -> Tensor:
    """Scores to learn from, in one pass, by the layout that `backbone.attention` allows. float32 [B, C]"""
    if backbone.is_unpacked:
        rows = plain_rows(prompts, backbone.pad_id)
        return score_plain(backbone, rows, yes_id, no_id, batch_size=len(rows.input_ids))
    return score_shared_prefix(backbone, shared_prefix_rows(prompts), yes_id, no_id)


def score_plain(backbone: Backbone, rows: PlainRows, yes_id: int, no_id: int, batch_size: int) -> Tensor:
    """Score every (history, candidate) row on its own, `batch_size` rows at a time. float32 [B, C]; -inf elsewhere"""
    parts = []
    for start in range(0, len(rows.input_ids), batch_size):
        batch = rows.part(slice(start, start + batch_size))
        hidden = plain_states(backbone, batch)
        at_answers = hidden[torch.arange(len(hidden)), batch.answer_positions.to(hidden.device)]
        parts.append(log_odds(backbone, at_answers, yes_id, no_id))
    scores = torch.cat(parts)
    table = scores.new_full((rows.n_histories, rows.n_slots), float("-inf"))
    return table.index_put((rows.history.to(scores.device), rows.candidate.to(scores.device)), scores)


def plain_states(backbone: Backbone, rows: PlainRows) -> Tensor:
    """Last hidden states of plain rows. [N, T, H]"""
    states: Tensor = backbone.decoder(
        input_ids=rows.input_ids.to(backbone.device),
        attention_mask=rows.attention_mask.to(backbone.device),
        use_cache=False,
    ).last_hidden_state
    return states


def log_odds(backbone: Backbone, hidden: Tensor, yes_id: int, no_id: int) -> Tensor:
    """`answer_log_odds` with the head of a backbone."""
    head: Any = backbone.output_head
    scale = HeadScale.of(backbone.config)
    return answer_log_odds(backbone.before_head(hidden), head.weight, getattr(head, "bias", None), yes_id, no_id, scale)
