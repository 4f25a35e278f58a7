"""Times the scoring of every method, in alternation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from common.baselines import authors_passes, work_of_authors
from common.batch_sizes import batch_size
from common.prompts import Prompts
from common.report import Line, lines_of
from common.timing import by_turns
from common.ways import CACHED, PLAIN, Way, precision
from torch import Tensor

from recbole_llmtrsr.engine.operations import OperationCosts
from recbole_llmtrsr.model.assembly import PromptedBackbone

# Share of the standard deviation of scores within a history, so that half precision changes the order only little.
SPREAD = 0.5


def compare_scoring(
    parts: PromptedBackbone, prompts: Prompts, own: Sequence[Way], n_authors: int, repetitions: int
) -> list[Line]:
    """Measure our methods, of which the first is the reference, and the others.

    Args:
        parts: backbone with prompts and answers.
        prompts: the prompts to score.
        own: our methods.
        n_authors: number of prompts for the slow procedure of the authors, whose time is then scaled.
        repetitions: number of repetitions.

    Raises:
        SystemExit: the scores of two methods differ.
    """
    device, few = parts.backbone.device, prompts.every(n_authors).first_candidates(1)
    authors = Way(
        f"authors' procedure (scaled from {len(few)} prompts)",
        authors_passes,
        lambda _, __, dense: work_of_authors(parts, len(prompts), dense),
        "rows",
    )
    ways = (*own, PLAIN, CACHED, authors)
    sizes = (
        {
            way.name: batch_size(device, way, prompts, lambda on, size, way=way: _score(way, parts, on, size))  # type: ignore[misc]
            for way in ways[:-1]
        }
        | {authors.name: 1}
    )
    calls: dict[str, Callable[[int], Tensor]] = {
        way.name: lambda size, way=way: _score(way, parts, few if way is authors else prompts, size)  # type: ignore[misc]
        for way in ways
    }
    seconds, scores, sizes = by_turns(device, calls, sizes, repetitions)
    sizes |= {way.name: way.budget.max_tokens for way in own if way.budget is not None}
    seconds[authors.name] = [t * len(prompts) / len(few) for t in seconds[authors.name]]
    expected = {way.name: scores[own[0].name] for way in ways}
    expected[authors.name] = _score(own[0], parts, few, sizes[own[0].name])
    differences = {name: float((scores[name] - expected[name]).abs().max()) for name in calls}
    allowed = _allowed(parts, scores[own[0].name])
    if not max(differences.values()) <= allowed:
        raise SystemExit(f"scores differ by more than {allowed:.2g}: {differences}")
    return lines_of(ways, prompts, sizes, seconds, OperationCosts.of(parts.backbone), differences)


def _score(way: Way, parts: PromptedBackbone, prompts: Prompts, size: int) -> Tensor:
    with torch.inference_mode(), precision(parts.backbone):
        return way.score(parts, prompts, size)


def _allowed(parts: PromptedBackbone, scores: Tensor) -> float:
    """Return the largest allowed difference between the scores of two methods."""
    if parts.backbone.transformer.dtype == torch.float32:
        return 1e-4
    return SPREAD * float(scores.std(1).mean())
