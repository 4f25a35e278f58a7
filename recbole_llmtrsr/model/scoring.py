"""Log-odds of the positive answer.

    score = logit_yes - logit_no,   logit_t = cap(scale * (h . w_t + b_t)),   P(yes | yes or no) = sigmoid(score)

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

from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.model.rows import PlainRows, SharedPrefixRows


@dataclass(frozen=True)
class HeadScale:
    """What a backbone does to h . w + b: multiply by `scale`, then squash into (-softcap, softcap)."""

    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, config: Any) -> HeadScale:
        """Read it from a transformers config: Granite divides, Cohere multiplies, Gemma 2 squashes."""
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        return cls(scale=scale, softcap=getattr(config, "final_logit_softcapping", None))


def answer_log_odds(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, yes_id: int, no_id: int, head: HeadScale = HeadScale()
) -> Tensor:
    """The formula above.

    Args:
        hidden: [..., H] hidden states at the answer slots.
        weight: [V, H] output head.
        bias: [V] or None.

    Returns:
        float32 [...].
    """
    answers = [yes_id, no_id]
    with torch.autocast(hidden.device.type, enabled=False):
        logits = F.linear(hidden.float(), weight[answers].float(), None if bias is None else bias[answers].float())
    logits = logits * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return logits[..., 0] - logits[..., 1]


def score_shared_prefix(backbone: Backbone, rows: SharedPrefixRows, yes_id: int, no_id: int) -> Tensor:
    """Score all candidates of every history in one pass over shared rows.

    Returns:
        float32 [B, C]; -inf at dummy slots.
    """
    rows = rows.to(backbone.device)
    input_ids = rows.packed(rows.input_ids)  # [1, N]
    hidden = backbone.decoder(
        input_ids=input_ids,
        position_ids=rows.packed(rows.position_ids),
        # Four dimensions mean "prepared" to transformers, which then neither builds an N x N mask nor reads restarting
        # positions as packed sequences. Empty, so that attention which would use it fails instead of misreading it.
        attention_mask=torch.empty(1, 1, 0, 0, dtype=torch.bool, device=input_ids.device),
        shared_prefix=rows,
        use_cache=False,
    ).last_hidden_state  # [1, N, H]
    at_answers = hidden[0, rows.answer_tokens]  # [B, C, H]
    return _log_odds(backbone, at_answers, yes_id, no_id).masked_fill(~rows.valid, float("-inf"))


def score_plain(backbone: Backbone, rows: PlainRows, yes_id: int, no_id: int, batch_size: int) -> Tensor:
    """Score every (history, candidate) row on its own, `batch_size` rows at a time.

    Returns:
        float32 [B, C]; -inf where a history has fewer candidates.
    """
    parts = []
    for start in range(0, len(rows.input_ids), batch_size):
        batch = slice(start, start + batch_size)
        last = rows.answer_positions[batch]
        longest = int(last.max()) + 1
        hidden = backbone.decoder(
            input_ids=rows.input_ids[batch, :longest].to(backbone.device),
            attention_mask=rows.attention_mask[batch, :longest].to(backbone.device),
            use_cache=False,
        ).last_hidden_state  # [batch_size, longest, H]
        at_answers = hidden[torch.arange(len(last), device=hidden.device), last.to(hidden.device)]
        parts.append(_log_odds(backbone, at_answers, yes_id, no_id))
    scores = torch.cat(parts)
    table = scores.new_full((rows.n_histories, rows.n_slots), float("-inf"))
    return table.index_put((rows.history.to(scores.device), rows.candidate.to(scores.device)), scores)


def _log_odds(backbone: Backbone, hidden: Tensor, yes_id: int, no_id: int) -> Tensor:
    head: Any = backbone.output_head
    scale = HeadScale.of(backbone.transformer.config)
    return answer_log_odds(hidden, head.weight, getattr(head, "bias", None), yes_id, no_id, scale)
