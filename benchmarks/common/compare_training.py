"""A training step by shared prefix and by plain rows, on the same samples: forward, backward and AdamW."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from common.prompts import Prompts
from common.report import Line
from common.timing import by_turns, fastest_size
from common.ways import PLAIN, Way, precision
from torch import Tensor

from recbole_llmtrsr.model.assembly import PromptedBackbone
from recbole_llmtrsr.model.meter import training_costs
from recbole_llmtrsr.model.operations import OperationCosts, Work

# Half precision rounds each way's gradients by several per cent of their norm, and more where candidates cancel out.
SAME = {torch.float32: 1e-4, torch.bfloat16: 0.2}
N_TO_TRY = 4


def compare_training(parts: PromptedBackbone, prompts: Prompts, own: Sequence[Way], repetitions: int) -> list[Line]:
    """Lines of our ways, the first of which is compared, and of plain rows.

    The step has rate 0, so that all repetitions are alike.

    Raises:
        SystemExit: the gradients of two ways differ.
    """
    backbone, ways = parts.backbone.train(), [*own, PLAIN]
    device = backbone.device
    weights = {name: weight for name, weight in backbone.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.AdamW(weights.values(), lr=0.0)
    labels = torch.tensor([1.0] + [0.0] * (len(prompts.candidates[0]) - 1), device=backbone.device)

    def backwards(way: Way, on: Prompts, size: int) -> list[Prompts]:
        # Accumulated: plain rows of all candidates at once exceed most memories.
        return list(on.parts(max(1, size // len(labels)) if way is PLAIN else size))

    def step(way: Way, on: Prompts, size: int) -> dict[str, Tensor]:
        optimizer.zero_grad()
        for part in backwards(way, on, size):
            with precision(backbone):
                scores = way.score(parts, part, size)
                loss = F.binary_cross_entropy_with_logits(scores, labels.expand_as(scores), reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return {name: weight.grad for name, weight in weights.items() if weight.grad is not None}

    # Plain rows of a few histories fill their sizes; ours are counted in histories.
    tried = {way.name: prompts.every(N_TO_TRY) if way is PLAIN else prompts for way in ways}
    sizes = {
        way.name: fastest_size(device, lambda n, way=way: step(way, tried[way.name], n), way.sizes)  # type: ignore[misc]
        for way in ways
    }
    calls = {way.name: lambda way=way: step(way, prompts, sizes[way.name]) for way in ways}  # type: ignore[misc]
    seconds, gradients = by_turns(device, calls, repetitions)
    backbone.eval()
    expected = gradients[own[0].name]
    differences = {name: _relative_difference(found, expected) for name, found in gradients.items()}
    if not max(differences.values()) <= SAME[backbone.transformer.dtype]:
        raise SystemExit(f"gradients differ by more than {SAME[backbone.transformer.dtype]}: {differences}")
    costs = training_costs(OperationCosts.of(backbone), backbone)
    lines = []
    for way in ways:
        size = sizes[way.name]
        parted = backwards(way, prompts, size)
        causal, dense = (sum((way.work(part, size, counted) for part in parted), Work()) for counted in (False, True))
        operations = (costs.operations(causal), costs.operations(dense))
        lines.append(Line(way.name, size, causal.tokens, seconds[way.name], operations, differences[way.name]))
    return lines


def _relative_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Norm of the difference of all gradients over the norm of the expected ones."""
    differences = [(found[name].float() - gradient.float()).norm() for name, gradient in expected.items()]
    norms = [gradient.float().norm() for gradient in expected.values()]
    return float(torch.stack(differences).norm() / torch.stack(norms).norm())
