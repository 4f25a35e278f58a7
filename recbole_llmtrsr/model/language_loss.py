"""Next-token loss over prompt and answer, as the paper trains; kept for fidelity.

The answer is one of about a thousand tokens, so most of this loss teaches the backbone to recite prompts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.model.rows import PlainRows

_IGNORED = -100


def language_loss(backbone: Backbone, rows: PlainRows, answer_ids: Tensor) -> Tensor:
    """Mean cross-entropy of every next token, the answer included.

    Args:
        backbone: the model.
        rows: one prompt per row. input_ids [R, T]
        answer_ids: the right answer's token of each row. [R]

    Returns:
        loss, shape [].

    Source:
        the paper's training loss, which Zheng et al. write over prompt and answer.
    """
    pad = torch.full_like(rows.input_ids[:, :1], backbone.pad_id)
    input_ids = torch.cat([rows.input_ids, pad], dim=1)
    mask = torch.cat([rows.attention_mask, torch.zeros_like(pad, dtype=rows.attention_mask.dtype)], dim=1)
    n = torch.arange(len(input_ids), device=input_ids.device)
    behind = rows.answer_positions + 1
    input_ids[n, behind] = answer_ids.to(input_ids.device)
    mask[n, behind] = 1
    targets = input_ids.masked_fill(mask == 0, _IGNORED)[:, 1:].to(backbone.device)
    logits = backbone.lm(
        input_ids=input_ids.to(backbone.device), attention_mask=mask.to(backbone.device), use_cache=False
    ).logits[:, :-1]
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=_IGNORED)
