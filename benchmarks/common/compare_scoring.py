"""The scores of every way, timed by turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from common.baselines import score_as_authors, work_of_authors
from common.prompts import Prompts
from common.report import Line
from common.timing import by_turns, fastest_size
from common.ways import CACHED, PLAIN, Way, precision
from torch import Tensor

from recbole_llmtrsr.model.assembly import PromptedBackbone
from recbole_llmtrsr.model.operations import OperationCosts

# Histories and candidates on which batch sizes are tried.
SAMPLE = {"cpu": (4, 21)}
SAMPLE_ELSEWHERE = (8, 21)


def fastest_sizes(parts: PromptedBackbone, prompts: Prompts, own: Sequence[Way]) -> dict[str, int]:
    """Batch size of every way, by name: found on a few prompts, for ours as given."""
    device = parts.backbone.device
    n_histories, n_candidates = SAMPLE.get(device.type, SAMPLE_ELSEWHERE)
    sample = prompts.every(n_histories).first_candidates(n_candidates)
    others = {
        way.name: fastest_size(device, lambda size, way=way: _score(way, parts, sample, size), way.sizes)  # type: ignore[misc]
        for way in (PLAIN, CACHED)
    }
    return {way.name: way.sizes[0] for way in own} | others


def compare_scoring(
    parts: PromptedBackbone,
    prompts: Prompts,
    own: Sequence[Way],
    sizes: dict[str, int],
    n_authors: int,
    repetitions: int,
) -> list[Line]:
    """Lines of our ways, the first of which is compared, and of the others.

    Args:
        parts: what scores.
        prompts: what is scored.
        own: our ways.
        sizes: batch size of every way.
        n_authors: prompts given to the slow procedure of the authors, from which its time is scaled.
        repetitions: turns.

    Raises:
        SystemExit: the scores of two ways differ.
    """
    few = prompts.every(n_authors).first_candidates(1)
    authors = Way(
        f"authors' procedure (scaled from {len(few)} prompts)",
        score_as_authors,
        lambda _, __, dense: work_of_authors(parts, len(prompts), dense),
        (1,),
    )
    ways, sizes = (*own, PLAIN, CACHED, authors), {**sizes, authors.name: 1}
    calls: dict[str, Callable[[], Tensor]] = {
        way.name: lambda way=way: _score(way, parts, few if way is authors else prompts, sizes[way.name])  # type: ignore[misc]
        for way in ways
    }
    seconds, scores = by_turns(parts.backbone.device, calls, repetitions)
    seconds[authors.name] = [t * len(prompts) / len(few) for t in seconds[authors.name]]
    expected = {way.name: scores[own[0].name] for way in ways}
    expected[authors.name] = _score(own[0], parts, few, sizes[own[0].name])
    differences = {name: float((scores[name] - expected[name]).abs().max()) for name in calls}
    allowed = _allowed(parts, scores[own[0].name])
    if not max(differences.values()) <= allowed:
        raise SystemExit(f"scores differ by more than {allowed:.2g}: {differences}")
    costs = OperationCosts.of(parts.backbone)
    lines = []
    for way in ways:
        size = sizes[way.name]
        causal, dense = (way.work(prompts, size, counted) for counted in (False, True))
        operations = (costs.operations(causal), costs.operations(dense))
        lines.append(Line(way.name, size, causal.tokens, seconds[way.name], operations, differences[way.name]))
    return lines


def _score(way: Way, parts: PromptedBackbone, prompts: Prompts, size: int) -> Tensor:
    with torch.inference_mode(), precision(parts.backbone):
        return way.score(parts, prompts, size)


def _allowed(parts: PromptedBackbone, scores: Tensor) -> float:
    if parts.backbone.transformer.dtype == torch.float32:
        return 1e-4
    return 0.05 * max(1.0, float(scores.abs().max()))  # half precision rounds relatively
