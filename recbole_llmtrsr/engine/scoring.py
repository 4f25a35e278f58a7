"""The score of a candidate: the log-odds of yes against no.

    score = logit_yes - logit_no                        P(yes | yes or no) = sigmoid(score)
    logit_t = cap(scale * (h . w_t + b_t))

Here h is the hidden state at the last token of the prompt, and w_t and b_t are the row of answer token t in the output
head. The module reads only these two rows, and computes in float32, because the logits of similar candidates tie in
bfloat16.

Source: Zheng et al. (WWW 2024) score a candidate by the two-way softmax of the yes and no logits.
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
    """Scaling of a backbone's logits: it multiplies h . w + b by `scale`, then squashes it into (-softcap, softcap)."""

    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, config: PretrainedConfig) -> HeadScale:
        """Read the scaling from a transformers config: Granite divides, Cohere multiplies, and Gemma 2 squashes."""
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        return cls(scale=scale, softcap=getattr(config, "final_logit_softcapping", None))

    def applied(self, logits: Tensor) -> Tensor:
        """Return cap(scale * logits)."""
        logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def answer_log_odds(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, yes_id: int, no_id: int, head: HeadScale = HeadScale()
) -> Tensor:
    """Compute the log-odds of yes against no from hidden states and an output head.

    Args:
        hidden: hidden states [..., H] at the last token of each prompt.
        weight: weight [V, H] of the output head.
        bias: bias [V] of the output head, if it has one.
        yes_id: token id of the answer yes.
        no_id: token id of the answer no.
        head: scaling of the logits.

    Returns:
        Scores, float32 [...].
    """
    answers = [yes_id, no_id]
    with torch.autocast(hidden.device.type, enabled=False):
        logits = F.linear(hidden.float(), weight[answers].float(), None if bias is None else bias[answers].float())
    logits = head.applied(logits)
    return logits[..., 0] - logits[..., 1]


def score_shared_prefix(backbone: Backbone, rows: SharedPrefixRows, yes_id: int, no_id: int) -> Tensor:
    """Score all candidates of every history in one forward pass over shared-prefix rows.

    Returns:
        Scores, float32 [B, C]; -inf in slots without a candidate.
    """
    rows = rows.to(backbone.device)
    at_answers = shared_prefix_states(backbone, rows)[rows.answer_tokens]  # [B, C, H]
    return log_odds(backbone, at_answers, yes_id, no_id).masked_fill(~rows.valid, float("-inf"))


def shared_prefix_states(backbone: Backbone, rows: SharedPrefixRows) -> Tensor:
    """Return the last hidden states [N, H] of all tokens of shared-prefix rows."""
    states: Tensor = backbone.decoder(
        input_ids=rows.input_ids,
        position_ids=rows.position_ids,
        # transformers treats a mask of four dimensions as prepared: it then neither builds an N x N mask nor interprets
        # restarting positions as packed sequences. The mask is empty, so that any attention that uses it fails.
        attention_mask=torch.empty(1, 1, 0, 0, dtype=torch.bool, device=rows.input_ids.device),
        shared_prefix=PrefixAttention(rows, backbone.attention),
        use_cache=False,
    ).last_hidden_state
    return states[0]


def scores_with_gradients(backbone: Backbone, prompts: GroupedPrompts, yes_id: int, no_id: int) -> Tensor:
    """Score in one forward pass with gradients, in the layout that `backbone.attention` requires.

    Returns:
        Scores, float32 [B, C]; -inf in slots without a candidate.
    """
    if backbone.is_unpacked:
        rows = plain_rows(prompts, backbone.pad_id)
        return score_plain(backbone, rows, yes_id, no_id, batch_size=len(rows.input_ids))
    return score_shared_prefix(backbone, shared_prefix_rows(prompts), yes_id, no_id)


def score_plain(backbone: Backbone, rows: PlainRows, yes_id: int, no_id: int, batch_size: int) -> Tensor:
    """Score every (history, candidate) row separately, `batch_size` rows at a time.

    Returns:
        Scores, float32 [B, C]; -inf in slots without a candidate.
    """
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
    """Return the last hidden states [N, T, H] of plain rows."""
    states: Tensor = backbone.decoder(
        input_ids=rows.input_ids.to(backbone.device),
        attention_mask=rows.attention_mask.to(backbone.device),
        use_cache=False,
    ).last_hidden_state
    return states


def log_odds(backbone: Backbone, hidden: Tensor, yes_id: int, no_id: int) -> Tensor:
    """Compute `answer_log_odds` with a backbone's output head."""
    head: Any = backbone.output_head
    scale = HeadScale.of(backbone.config)
    return answer_log_odds(backbone.before_head(hidden), head.weight, getattr(head, "bias", None), yes_id, no_id, scale)
