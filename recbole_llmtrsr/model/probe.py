"""Does this backbone score shared-prefix rows exactly as plain rows? Ask it, rather than a list of architectures."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.model.prefix_attention import SHARED_PREFIX
from recbole_llmtrsr.model.rows import plain_rows, shared_prefix_rows
from recbole_llmtrsr.model.scoring import score_plain, score_shared_prefix

logger = logging.getLogger(__name__)

PREFIX_LENGTHS, CANDIDATE_LENGTHS = (23, 9, 17), ((5, 2, 7), (4,), (6, 3))
# Largest difference allowed, relative to the largest answer logit.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
TOLERANCE_HALF = 0.05
# Windows up to this size are crossed by a probing prompt; longer ones would make the probe itself slow.
LONGEST_PROBED_WINDOW = 1024


@torch.no_grad()
def probe(backbone: Backbone, yes_id: int, no_id: int) -> str | None:
    """Set `backbone.attention` to the fastest path that is exact on this backbone.

    Compares shared-prefix scores with plain ones, and plain ones with the model's own logits, on a few random prompts
    in eval mode.

    Returns:
        None when shared-prefix scoring is exact, otherwise why it is not; then `attention` is "plain".

    Raises:
        UserError: not even plain scores equal the model's logits.
    """
    was_training = backbone.training
    backbone.eval()
    config = backbone.transformer.config
    native = config._attn_implementation if config._attn_implementation != SHARED_PREFIX else "sdpa"
    backbone.transformer.set_attn_implementation(native)
    try:
        prompts = _random_prompts(backbone)
        try:
            reference, scale = _reference(backbone, *prompts, yes_id, no_id)
            plain = score_plain(backbone, plain_rows(*prompts, backbone.pad_id), yes_id, no_id, batch_size=4)
        except Exception as error:
            raise UserError(
                f"backbone {backbone.name!r} cannot score a prompt ({_first_line(error)}): choose another backbone, "
                "or `backbone: builtin`"
            ) from error
        allowed = TOLERANCE.get(backbone.transformer.dtype, TOLERANCE_HALF) * scale
        if not _largest_difference(plain, reference) <= allowed:
            raise UserError(
                f"backbone {backbone.name!r}: its logits are not hidden states times output head (log-odds differ by "
                f"{_largest_difference(plain, reference):.2g}): choose another backbone, or `backbone: builtin`"
            )
        reason = _shared_prefix_fault(backbone, prompts, plain, allowed, yes_id, no_id)
    finally:
        backbone.train(was_training)
    backbone.attention = "plain" if reason else "shared_prefix"
    if reason:
        backbone.transformer.set_attn_implementation(native)
        logger.warning(
            "backbone %r scores every candidate with its own prompt, which is slower: %s", backbone.name, reason
        )
    return reason


Prompts = tuple[list[list[int]], list[list[list[int]]]]


def _shared_prefix_fault(
    backbone: Backbone, prompts: Prompts, plain: Tensor, allowed: float, yes_id: int, no_id: int
) -> str | None:
    transformer = backbone.transformer
    kinds = set(getattr(transformer.config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"its layers include {', '.join(sorted(kinds))}"
    if not transformer._can_set_attn_implementation():
        return "its attention does not go through transformers' attention interface"
    try:
        transformer.set_attn_implementation(SHARED_PREFIX)
        shared = score_shared_prefix(backbone, shared_prefix_rows(*prompts, backbone.pad_id), yes_id, no_id)
        again = score_plain(backbone, plain_rows(*prompts, backbone.pad_id), yes_id, no_id, batch_size=4)
    except Exception as error:  # whatever a backbone does with an unknown argument or mask, plain rows still work
        return _first_line(error)
    difference = max(_largest_difference(shared, plain), _largest_difference(again, plain))
    if not difference <= allowed:
        return f"its shared-prefix scores differ from plain ones by {difference:.2g} (allowed {allowed:.2g})"
    return None


def _random_prompts(backbone: Backbone) -> Prompts:
    config = backbone.transformer.config
    generator = torch.Generator().manual_seed(0)
    n_ids = backbone.transformer.get_input_embeddings().num_embeddings

    def ids(length: int) -> list[int]:
        return torch.randint(n_ids, (length,), generator=generator).tolist()

    window = getattr(config, "sliding_window", None) or 0
    longest = getattr(config, "max_position_embeddings", None) or 2**31
    beyond = window + 2 if window <= min(LONGEST_PROBED_WINDOW, longest - 16) else 0
    lengths = (max(PREFIX_LENGTHS[0], beyond), *PREFIX_LENGTHS[1:])
    return [ids(n) for n in lengths], [[ids(n) for n in own] for own in CANDIDATE_LENGTHS]


def _reference(
    backbone: Backbone, prefixes: list[list[int]], candidates: list[list[list[int]]], yes_id: int, no_id: int
) -> tuple[Tensor, float]:
    """Log-odds [B, C] read from the model's own logits, one unpadded prompt at a time, and their largest logit."""
    table = torch.full((len(prefixes), max(map(len, candidates))), float("-inf"), device=backbone.device)
    scale = 0.0
    for b, (prefix, own) in enumerate(zip(prefixes, candidates)):
        for c, section in enumerate(own):
            input_ids = torch.tensor([prefix + section], device=backbone.device)
            logits = (
                backbone.lm(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), use_cache=False)
                .logits[0, -1]
                .float()
            )
            table[b, c] = logits[yes_id] - logits[no_id]
            scale = max(scale, float(logits[[yes_id, no_id]].abs().max()))
    return table, scale


def _largest_difference(a: Tensor, b: Tensor) -> float:
    """Over the real slots; nan if any score is."""
    real = b != float("-inf")
    return float((a[real] - b[real]).abs().max())


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
