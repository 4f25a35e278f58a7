"""Exactness check of attention back-ends: which of them reproduce a backbone's plain scores."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from recbole_llmtrsr.engine.attention.prefix_attention import BACKENDS, SHARED_PREFIX, backends_for
from recbole_llmtrsr.engine.rows import GroupedPrompts, plain_rows
from recbole_llmtrsr.engine.scorer import Scorer
from recbole_llmtrsr.engine.scoring import score_plain, scores_with_gradients
from recbole_llmtrsr.engine.token_budget import TokenBudget
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.backbone import Backbone

logger = logging.getLogger(__name__)

PREFIX_LENGTHS, CANDIDATE_LENGTHS = (23, 9, 17), ((5, 2, 7), (4,), (6, 3))
# Largest difference allowed, relative to the largest answer logit, or to the largest norm of a weight's gradient.
TOLERANCE, TOLERANCE_HALF = 1e-4, 0.05
# In half precision, back-ends differ by rounding, as plain batches differ from single prompts. The check allows this
# multiple of that difference, or this share of the range of scores. A share of the logits could exceed the differences
# that rank candidates.
NOISE_HALF, SHARE_OF_RANGE_HALF = 4, 0.05
# Number of gradient elements to compare.
MOST_GRADIENTS = 2**25
# Budgets in tokens: all candidates in one pass, and each candidate in a separate pass.
_BUDGETS = (2**30, 1)


def choose_attention(
    backbone: Backbone, yes_id: int, no_id: int, wanted: str = "auto", longest_prompt: int = 1024
) -> dict[str, str]:
    """Set `backbone.attention` to the fastest back-end that is exact on this backbone.

    On a few random prompts in eval mode, the check compares scores, whole and in chunks, and gradients of the trainable
    weights with those of plain rows. It also compares plain scores with the logits that the model computes.

    Args:
        backbone: the backbone to check.
        yes_id, no_id: token ids of the answers.
        wanted: a back-end, or "auto" for the first one that is exact.
        longest_prompt: length of the run's longest prompt in tokens. If such a prompt exceeds the backbone's sliding
            window, so does one prompt of the check.

    Returns:
        The reasons why faster back-ends were refused, by name.

    Raises:
        UserError: if the wanted back-end is not exact, or if plain scores differ from the model's logits.
    """
    was_training = backbone.training
    backbone.eval()
    native = backbone.native_attention
    backbone.transformer.set_attn_implementation(native)
    try:
        exact = _Exact(backbone, yes_id, no_id, longest_prompt)
        faults: dict[str, str] = {}
        to_try = (*backends_for(backbone.device), "cached_prefix", "plain") if wanted == "auto" else (wanted,)
        for backend in to_try:
            backbone.transformer.set_attn_implementation(native)
            reason = exact.fault_of(backend)
            if reason is None:
                break
            faults[backend] = reason
    finally:
        backbone.train(was_training)
    if wanted in faults:
        backbone.attention = "plain"
        raise UserError(
            f"attention: {wanted} is not exact on backbone {backbone.name!r} ({faults[wanted]}): set attention: auto"
        )
    if backbone.attention in ("cached_prefix", "plain") and wanted == "auto":
        logger.warning(
            f"backbone {backbone.name!r} uses attention: {backbone.attention}, which is slower than a shared prefix,"
            " because the faster ones cannot be used:"
            f" {'; '.join(f'{name}: {reason}' for name, reason in faults.items())}"
        )
    return faults


class _Exact:
    """Scores and gradients of plain rows, which a back-end must reproduce.

    Raises:
        UserError: if plain scores differ from the model's logits.
    """

    def __init__(self, backbone: Backbone, yes_id: int, no_id: int, longest_prompt: int) -> None:
        self._backbone, self._ids = backbone, (yes_id, no_id)
        self._prompts = _random_prompts(backbone, longest_prompt)
        # Gradients of a long prompt would take more memory than the run itself.
        self._short = self._prompts.chosen(range(1, len(self._prompts)))
        backbone.attention = "plain"
        try:
            self._scores = self._plain()  # the first pass must run through the decoder if weights are sharded
            with torch.no_grad():
                reference, scale = _reference(backbone, self._prompts, yes_id, no_id)
            self._gradients = self._gradients_now()
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"backbone {backbone.name!r} leaves no memory for a prompt and its gradients: choose a smaller one, or"
                " set load_in: 4bit, precision: bf16"
            ) from error
        except Exception as error:
            raise UserError(
                f"backbone {backbone.name!r} cannot score a prompt ({_first_line(error)}): choose another backbone, "
                "or `backbone: builtin`"
            ) from error
        is_half = backbone.transformer.dtype.itemsize < 4 or torch.is_autocast_enabled(backbone.device.type)
        self._relative = TOLERANCE_HALF if is_half else TOLERANCE
        self._allowed = self._relative * scale
        if not _largest_difference(self._scores, reference) <= self._allowed:
            raise UserError(
                f"backbone {backbone.name!r} does not compute its logits as hidden states times output head (log-odds"
                f" differ by {_largest_difference(self._scores, reference):.2g}): choose another backbone, or"
                " `backbone: builtin`"
            )

        self._largest_gradient = max((float(g.norm()) for g in self._gradients), default=0.0)
        self._allowed_of_gradients = self._relative * self._largest_gradient
        if is_half:
            real = self._scores[self._scores != float("-inf")]
            noise = _largest_difference(self._plain(batch_size=1), self._scores)
            self._allowed = max(NOISE_HALF * noise, SHARE_OF_RANGE_HALF * float(real.max() - real.min()))
            noise = _largest_norm(self._gradients_now(one_by_one=True), self._gradients)
            self._allowed_of_gradients = max(NOISE_HALF * noise, self._allowed_of_gradients)

    def fault_of(self, backend: str) -> str | None:
        """Set the backbone to a back-end and return why it is not exact, or None if it is."""
        backbone = self._backbone
        if backend in BACKENDS:
            if fault := _cannot_share(backbone):
                return fault
            backbone.transformer.set_attn_implementation(SHARED_PREFIX)
        backbone.attention = backend  # type: ignore[assignment]
        try:
            budgets = [TokenBudget(n, backbone.device, "check") for n in _BUDGETS]
            # Without sharing out, since every process must make the same passes.
            scorers = [Scorer(backbone, *self._ids, budget, shares_out=False) for budget in budgets]
            found = [*(scorer.scores(self._prompts) for scorer in scorers), self._plain()]
            gradients = self._gradients_now()
        except Exception as error:  # a backbone can fail in any way on this back-end while others still work
            if backbone.is_divided:
                raise UserError(
                    f"attention: {backend} fails on backbone {backbone.name!r} ({_first_line(error)}), and sharded"
                    " weights cannot be read after an incomplete forward pass: set attention to another back-end"
                ) from error
            return _first_line(error)
        for difference in (_largest_difference(scores, self._scores) for scores in found):
            if difference <= self._allowed:
                continue
            return f"its scores differ from plain scores by {difference:.2g} (allowed {self._allowed:.2g})"
        difference = _largest_norm(gradients, self._gradients)
        if difference <= self._allowed_of_gradients:
            return None
        return (
            f"its gradients differ from those of plain rows by {difference:.2g} (allowed"
            f" {self._allowed_of_gradients:.2g}, largest norm {self._largest_gradient:.2g})"
        )

    @torch.no_grad()
    def _plain(self, batch_size: int = 4) -> Tensor:
        return score_plain(self._backbone, plain_rows(self._prompts, self._backbone.pad_id), *self._ids, batch_size)

    def _gradients_now(self, one_by_one: bool = False) -> list[Tensor]:
        """Compute gradients of the sum of scores by some trainable weights, without accumulating them in `grad`.

        Args:
            one_by_one: read plain rows, each in a pass without padding.
        """
        weights = _some_trained(self._backbone)
        if not weights:
            return []
        with torch.enable_grad():
            if one_by_one:
                rows = plain_rows(self._short, self._backbone.pad_id)
                scores = score_plain(self._backbone, rows, *self._ids, batch_size=1)
            else:
                scores = scores_with_gradients(self._backbone, self._short, *self._ids)
            gradients = torch.autograd.grad(scores[scores != float("-inf")].sum(), weights, allow_unused=True)
        return [torch.zeros_like(w) if g is None else g.float() for w, g in zip(weights, gradients, strict=True)]


def _some_trained(backbone: Backbone) -> list[Tensor]:
    """Return the first trainable weights, which the backward pass reaches last, up to `MOST_GRADIENTS` elements."""
    chosen: list[Tensor] = []
    spare = MOST_GRADIENTS
    for weight in backbone.parameters():
        if weight.requires_grad and weight.numel() <= spare:
            chosen.append(weight)
            spare -= weight.numel()
    return chosen


def _cannot_share(backbone: Backbone) -> str | None:
    """Return why a pass cannot hold several candidates, if the backbone's config or class shows a reason."""
    kinds = set(getattr(backbone.config, "layer_types", None) or ())
    if kinds := kinds - {"full_attention", "sliding_attention"}:
        return f"its layers include {', '.join(sorted(kinds))}"
    if not backbone.transformer._can_set_attn_implementation():
        return "its attention does not go through transformers' attention interface"
    return None


def _random_prompts(backbone: Backbone, longest_prompt: int) -> GroupedPrompts:
    config = backbone.config
    generator = torch.Generator().manual_seed(0)
    n_ids = backbone.transformer.get_input_embeddings().num_embeddings

    def ids(length: int) -> list[int]:
        return torch.randint(n_ids, (length,), generator=generator).tolist()

    window = getattr(config, "sliding_window", None) or 0
    longest = getattr(config, "max_position_embeddings", None) or 2**31
    beyond = window + 2 if window < min(longest_prompt, longest - 16) else 0
    lengths = (max(PREFIX_LENGTHS[0], beyond), *PREFIX_LENGTHS[1:])
    return GroupedPrompts([ids(n) for n in lengths], [[ids(n) for n in own] for own in CANDIDATE_LENGTHS])


def _reference(backbone: Backbone, prompts: GroupedPrompts, yes_id: int, no_id: int) -> tuple[Tensor, float]:
    """Compute log-odds [B, C] from the model's logits, one unpadded prompt at a time, and the largest answer logit."""
    table = torch.full((len(prompts), int(prompts.counts.max())), float("-inf"), device=backbone.device)
    scale = 0.0
    for b, (prefix, own) in enumerate(zip(prompts.prefixes, prompts.candidates)):
        for c, section in enumerate(own):
            input_ids = torch.tensor([[*prefix, *section]], device=backbone.device)
            output = backbone.lm(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), use_cache=False)
            logits = output.logits[0, -1].float()
            table[b, c] = logits[yes_id] - logits[no_id]
            scale = max(scale, float(logits[[yes_id, no_id]].abs().max()))
    return table, scale


def _largest_difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference over slots with a candidate; nan if any of their scores is nan."""
    real = b != float("-inf")
    return float((a[real] - b[real]).abs().max())


def _largest_norm(some: list[Tensor], others: list[Tensor]) -> float:
    """Return the largest norm of a difference between two tensors; nan if any element is nan."""
    norms = [(one - other).norm() for one, other in zip(some, others, strict=True)]
    return float(torch.stack(norms).max()) if norms else 0.0


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
