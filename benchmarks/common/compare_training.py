"""Times a training step (forward, backward, AdamW) with a shared prefix and with plain rows, on the same samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from common.baselines import Passes
from common.batch_sizes import batch_size
from common.prompts import Prompts
from common.report import Line, lines_of
from common.timing import by_turns
from common.ways import PLAIN, Way, precision
from torch import Tensor

from recbole_llmtrsr.engine.meter import training_costs
from recbole_llmtrsr.engine.operations import OperationCosts
from recbole_llmtrsr.llm.backbone import Backbone
from recbole_llmtrsr.model.assembly import PromptedBackbone

# Half precision rounds gradients by several per cent of their norm, and more if the candidates' gradients cancel out.
SAME = {torch.float32: 1e-4, torch.bfloat16: 0.2}
N_HISTORIES = 8


def compare_training(parts: PromptedBackbone, prompts: Prompts, own: Sequence[Way], repetitions: int) -> list[Line]:
    """Measure our methods, of which the first is the reference, and plain rows on `N_HISTORIES` of the histories.

    The learning rate is 0, so that all repetitions are equal. Gradients accumulate over the passes of each method.

    Raises:
        SystemExit: the gradients of two methods differ.
    """
    backbone, ways = parts.backbone.train(), [*own, PLAIN]
    device = backbone.device
    weights = {name: weight for name, weight in backbone.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.AdamW(weights.values(), lr=0.0)

    def step(way: Way, on: Prompts, size: int) -> dict[str, Tensor]:
        optimizer.zero_grad()
        passes = way.passes(parts, on, size)
        while (one := _next(backbone, passes)) is not None:
            scores, places = one
            is_first = [place % len(on.candidates[0]) == 0 for place in places]  # as if it were the target
            labels = torch.tensor(is_first, dtype=scores.dtype, device=device)
            F.binary_cross_entropy_with_logits(scores, labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return {name: weight.grad for name, weight in weights.items() if weight.grad is not None}

    sizes = {
        way.name: batch_size(device, way, prompts, lambda on, size, way=way: step(way, on, size))  # type: ignore[misc]
        for way in ways
    }
    prompts = prompts.every(N_HISTORIES)
    calls = {way.name: lambda size, way=way: step(way, prompts, size) for way in ways}  # type: ignore[misc]
    seconds, gradients, sizes = by_turns(device, calls, sizes, repetitions)
    backbone.eval()
    expected = gradients[own[0].name]
    differences = {name: _relative_difference(found, expected) for name, found in gradients.items()}
    if not max(differences.values()) <= SAME[backbone.transformer.dtype]:
        raise SystemExit(f"gradients differ by more than {SAME[backbone.transformer.dtype]}: {differences}")
    costs = training_costs(OperationCosts.of(backbone), backbone)
    return lines_of(ways, prompts, sizes, seconds, costs, differences)


def _next(backbone: Backbone, passes: Passes) -> tuple[Tensor, Sequence[int]] | None:
    """Run the next forward pass under autocast; the backward pass uses the precision of its forward pass."""
    with precision(backbone):
        return next(passes, None)


def _relative_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Return the norm of the difference of all gradients, divided by the norm of the expected gradients."""
    differences = [(found[name].float() - gradient.float()).norm() for name, gradient in expected.items()]
    norms = [gradient.float().norm() for gradient in expected.values()]
    return float(torch.stack(differences).norm() / torch.stack(norms).norm())
