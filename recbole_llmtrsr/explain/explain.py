"""Collects the explanation of a user's ranking from a run."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import SequentialRecommender

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.settings import Settings
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.data.histories import HISTORY_ID
from recbole_llmtrsr.data.loaders.make_loaders import CandidateEvalDataLoader
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.explain.explanation import ExplainedItem, ExplainedSection, Explanation, as_read
from recbole_llmtrsr.explain.ranking import ExplainedCandidate
from recbole_llmtrsr.prompt.builder import PromptBuilder, PromptSection
from recbole_llmtrsr.summarizer.trace import TracedCall

_N_NAMED = 5


class Summaries(Protocol):
    """The calls of a summary writer."""

    def calls_of(self, history_id: int) -> Sequence[TracedCall]:
        """The calls behind a history's summary, inputs first and the result last."""


class Trained(Protocol):
    """A trainer whose language model is ready."""

    model: SequentialRecommender
    accelerator: Accelerator


def explain(
    user: str,
    dataset: LLMTRSRDataset,
    summaries: Summaries | None,
    prompts: PromptBuilder | None = None,
    scores: Mapping[int, float] | None = None,
    *,
    no_scores: str = "",
) -> Explanation:
    """Explain the ranking of a user's latest target.

    Args:
        user: token of the user.
        dataset: of the split, with its summaries.
        summaries: None where summaries are off.
        prompts: the model's; None without a model.
        scores: log-odds of the candidates, by item id, as ``candidate_scores`` returns them.
        no_scores: the reason for missing scores.

    Raises:
        UserError: the user is unknown, or has no target in this split.
    """
    row, n_targets = find_row(user, dataset)
    history_id = int(dataset.inter_feat[HISTORY_ID][row])
    target = int(dataset.inter_feat[dataset.iid_field][row])
    tokens = dataset.field2id_token[dataset.iid_field]
    made = explain_history(
        dataset.config,
        lambda i: ExplainedItem(str(tokens[i]), dataset.item(i).line),
        [int(i) for i in dataset.histories[history_id]],
        target,
        None if summaries is None else dataset.summary(history_id),
        () if summaries is None else summaries.calls_of(history_id),
        prompts,
        scores,
        no_scores=no_scores,
    )
    candidates = [dataclasses.replace(c, is_target=i == target) for i, c in zip(scores or (), made.candidates)]
    return dataclasses.replace(made, user=user, target=made.shown, n_targets=n_targets, candidates=tuple(candidates))


def explain_history(
    config: Config,
    item: Callable[[int], ExplainedItem],
    history: Sequence[int],
    shown: int,
    summary: str | None,
    calls: Sequence[TracedCall],
    prompts: PromptBuilder | None,
    scores: Mapping[int, float] | None,
    *,
    no_scores: str = "",
) -> Explanation:
    """Explain the ranking of candidates after any history.

    Args:
        config: of the run.
        item: token and text of an item id.
        history: item ids, oldest first.
        shown: the candidate whose prompt is shown.
        summary: the preference summary; None where summaries are off.
        calls: of the summary writer, inputs first.
        prompts: the model's; None without a model.
        scores: log-odds of the candidates, by item id.
        no_scores: the reason for missing scores.
    """
    settings = config.settings
    from_file = settings.summary.summarizer.startswith("file:")  # without blocks and calls
    calls = _numbered(calls)
    sections = [] if prompts is None else prompts.sections(summary or "", history, shown)
    n_recent = next(
        (len(section.items) for section in sections if section.name == "recent items"),
        min(settings.prompt.n_recent_items, len(history)),
    )
    return Explanation(
        dataset=str(config["dataset"]),
        model=str(config["model"]),
        user="",
        target=None,
        shown=item(shown),
        history=tuple(item(i) for i in history),
        n_recent=n_recent,
        block_size=None if summary is None or from_file else settings.summary.block_size,
        calls=calls,
        result=calls[-1].number if calls else None,
        summary=summary,
        sections=tuple(
            ExplainedSection(section.name, section.text, len(section.ids), section.limit, _note(section, item))
            for section in sections
        ),
        prompt_limit=settings.prompt.max_prompt_tokens,
        candidates=_candidates(item, scores or {}, prompts, sections),
        no_candidates="" if scores else no_scores or "the candidates were not scored",
        options=_options(settings),
    )


def find_row(user: str, dataset: LLMTRSRDataset) -> tuple[int, int]:
    """The row of a user's latest target in a split, and the number of the user's targets.

    Raises:
        UserError: the user is unknown, or has no target in this split.
    """
    tokens = [str(token) for token in dataset.field2id_token[dataset.uid_field]]
    known = tokens[1:]  # 0 is the padding
    if user not in known:
        near = difflib.get_close_matches(user, known, n=_N_NAMED, cutoff=0) or known[:_N_NAMED]
        raise UserError(
            f"explain: no user '{user}' among the {len(known)} users of '{dataset.config['dataset']}' after filtering;"
            f" the nearest ids are {', '.join(near)}"
        )
    users = dataset.inter_feat[dataset.uid_field].numpy()
    rows = np.flatnonzero(users == 1 + known.index(user))
    if not len(rows):
        able = [tokens[i] for i in dict.fromkeys(users.tolist())]
        raise UserError(
            f"explain: user '{user}' has no target in this split, because of too few events; {len(able)} of"
            f" {len(known)} users have one, among them {', '.join(able[:_N_NAMED])}"
        )
    return int(rows[np.argmax(dataset.inter_feat[HISTORY_ID].numpy()[rows])]), len(rows)


def history_of(user: str, dataset: LLMTRSRDataset) -> int:
    """The history id of a user's latest target in a split; errors as for ``find_row``."""
    return int(dataset.inter_feat[HISTORY_ID][find_row(user, dataset)[0]])


@torch.no_grad()
def candidate_scores(trainer: Trained, loader: AbstractDataLoader, user: str) -> dict[int, float] | None:
    """Scores of the candidates that the evaluation ranks for a user's latest target, in the evaluation's precision.

    Returns:
        log-odds by item id; with a retriever those of its top items, before they are blended with the retriever's
        scores. None where the loader ranks no list of candidates (mode: labeled).

    Raises:
        UserError: the user is unknown, or has no target in this split.
    """
    dataset, model = loader._dataset, trainer.model
    row, _ = find_row(user, dataset)
    model.eval()
    with trainer.accelerator.autocast():
        if isinstance(loader, CandidateEvalDataLoader):
            rows = loader.collate_fn([row])[0]
            items, scores = rows[dataset.iid_field], model.predict(rows.to(model.device))
        elif isinstance(loader, FullSortEvalDataLoader):
            rows = dataset[np.array([row])]
            if getattr(model, "reranking", None) is not None:
                items = model.reranking.top(rows)[1]
                scores = model.rank(rows[HISTORY_ID].tolist(), items)[0]
                return dict(zip(items[0].tolist(), scores.float().cpu().tolist(), strict=True))
            scores = model.full_sort_predict(rows.to(model.device))[1:]  # 0 is the padding
            items = torch.arange(1, len(scores) + 1)
        else:
            return None
    return dict(zip(items.tolist(), scores.float().cpu().tolist(), strict=True))


def _candidates(
    item: Callable[[int], ExplainedItem],
    scores: Mapping[int, float],
    prompts: PromptBuilder | None,
    sections: Sequence[PromptSection],
) -> tuple[ExplainedCandidate, ...]:
    """The scored items, each with what its prompt shows of it."""
    n_prefix = sum(len(section.ids) for section in sections if section.name not in ("candidate", "answer slot"))
    found = []
    for i, score in scores.items():
        n_cut = 0 if prompts is None else prompts.tokens_cut(i, n_prefix)
        read = as_read(prompts.candidate_text(i, n_prefix)) if prompts is not None and n_cut else ""
        found.append(ExplainedCandidate(item(i).token, item(i).line, float(score), tokens_cut=n_cut, read=read))
    return tuple(found)


def _numbered(calls: Sequence[TracedCall]) -> tuple[TracedCall, ...]:
    """The calls, numbered from 1: the numbers of a plan count the calls of all users."""
    numbers = {call.number: number for number, call in enumerate(calls, start=1)}
    return tuple(
        dataclasses.replace(call, number=numbers[call.number], inputs=tuple(numbers[i] for i in call.inputs))
        for call in calls
    )


def _note(section: PromptSection, item: Callable[[int], ExplainedItem]) -> str:
    """Describes what was cut from a section; '' where nothing was."""
    notes, n = [], len(section.ids)
    if section.tokens_cut:
        notes.append(f"cut from {n + section.tokens_cut} to {n} tokens")
    if section.items_left_out:
        names = ", ".join(item(i).token for i in section.items_left_out)
        notes.append(f"older recent items left out for lack of room: {names}")
    if section.items_cut:
        names = ", ".join(f"{item(i).token} ({n_cut})" for i, n_cut in section.items_cut)
        notes.append(f"item texts cut at max_item_tokens (number of tokens cut): {names}")
    return "; ".join(notes)


def _options(settings: Settings) -> tuple[tuple[str, str], ...]:
    """The options of summary and prompt, and the backbone."""
    values = {**dataclasses.asdict(settings.summary), **dataclasses.asdict(settings.prompt)}
    del values["summarizer_api_key_variable"]
    values["backbone"] = settings.backbone.backbone
    if settings.retrieval.retriever is not None:
        values |= dataclasses.asdict(settings.retrieval)
    return tuple((name, "~" if value is None else str(value)) for name, value in values.items())
