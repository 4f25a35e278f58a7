"""Candidate sets: drawn once, saved, hashed, and used by every model and every epoch.

RecBole redraws the negatives at each evaluation from NumPy's global state, so two models, or two epochs, are compared
on different candidates. Here the set of a history depends on nothing but the data, the split, the mode and the seed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llmtrsr.data.histories import HISTORY_ID, Histories
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.whole_file import whole_file

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CandidateSet:
    """The negatives of every history of one split.

    Attributes:
        history_ids: ascending. [n_histories]
        items: item ids of the negatives, all different, in an order without meaning. [n_histories, n_negatives]
        digest: SHA-256 over users, targets and candidates by their tokens, whatever the order of the rows.
    """

    history_ids: Ids
    items: Ids
    digest: str

    def negatives(self, history_ids: Ids) -> Ids:
        """Negatives of the given histories. [len(history_ids), n_negatives]"""
        positions = np.searchsorted(self.history_ids, history_ids)
        if (positions >= len(self.history_ids)).any() or (self.history_ids[positions] != history_ids).any():
            raise KeyError("a history has no candidate set: it belongs to another split")
        return self.items[positions]


def sampled_mode(mode: str) -> tuple[str, int] | None:
    """('uniform' | 'popularity', number of negatives) of a sampled mode; None for full and labeled.

    Raises:
        UserError: no negatives are asked for.

    >>> sampled_mode("uni20"), sampled_mode("pop100"), sampled_mode("full")
    (('uniform', 20), ('popularity', 100), None)
    """
    match = re.fullmatch(r"(uni|pop)(\d+)", mode)
    if match is None:
        return None
    if int(match[2]) < 1:
        raise UserError(f"eval_args mode '{mode}' ranks a target against nothing: ask for at least {match[1]}1")
    return {"uni": "uniform", "pop": "popularity"}[match[1]], int(match[2])


def candidate_set(config: Any, dataset: Any, split: str) -> CandidateSet:
    """The candidate set of a split: read from ``candidate_dir`` when it was drawn before, else drawn and saved.

    Args:
        config: our Config.
        dataset: the built data set of the split, with history ids on its rows.
        split: 'valid' or 'test'.

    Raises:
        UserError: fewer items than negatives asked for, or a saved set that was changed.
    """
    mode = sampled_mode(config["eval_args"]["mode"][split])
    assert mode is not None
    rows = _Rows.of(dataset)
    settings = config.settings.evaluation
    question = rows.fingerprint(f"{config['seed']}|{split}|{mode[0]}|{mode[1]}|{settings.candidate_exclusion}")
    name = f"{config['dataset']}-{split}-{mode[0]}{mode[1]}-{question[:12]}.npz"
    path = Path(settings.candidate_dir) / name
    if path.is_file():
        return _load(path, rows)
    items = _draw(rows, mode[0], mode[1], f"{config['seed']}|{split}", settings.candidate_exclusion == "history")
    drawn = CandidateSet(rows.history_ids, items, rows.digest(items))
    _save(path, drawn)
    getLogger().info(f"drew {len(items)} x {mode[1]} {mode[0]} candidates for {split}, saved as {path}")
    return drawn


@dataclass(frozen=True)
class _Rows:
    """What a draw depends on, by ascending history id."""

    history_ids: Ids
    targets: Ids
    user_tokens: npt.NDArray[Any]
    item_tokens: npt.NDArray[Any]
    histories: Histories

    @classmethod
    def of(cls, dataset: Any) -> _Rows:
        ids = dataset.inter_feat[HISTORY_ID].numpy()
        order = np.argsort(ids)
        users = dataset.inter_feat[dataset.uid_field].numpy()[order]
        return cls(
            ids[order],
            dataset.inter_feat[dataset.iid_field].numpy()[order],
            np.asarray(dataset.field2id_token[dataset.uid_field])[users].astype(str),
            np.asarray(dataset.field2id_token[dataset.iid_field]).astype(str),
            dataset.histories,
        )

    def fingerprint(self, choices: str) -> str:
        parts = [choices, "\t".join(self.item_tokens), "\t".join(self.user_tokens)]
        past = self.histories
        arrays = (self.history_ids, self.targets, past.items, past.begin, past.end, past.events)
        hasher = hashlib.sha256("\n".join(parts).encode())
        for array in arrays:
            hasher.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
        return hasher.hexdigest()

    def digest(self, items: Ids) -> str:
        lines = [
            "\t".join([user, self.item_tokens[target], *sorted(self.item_tokens[row])])
            for user, target, row in zip(self.user_tokens, self.targets, items, strict=True)
        ]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _draw(rows: _Rows, distribution: str, n: int, seed: str, exclude_history: bool) -> Ids:
    n_items = len(rows.item_tokens)
    weights = np.ones(n_items)
    if distribution == "popularity":  # as RecBole: over all events of the data set
        weights = np.bincount(rows.histories.events, minlength=n_items).astype(float)
    weights[0] = 0  # the padding
    # Drawn by rank among the sorted tokens: RecBole's ids follow the order of lines in the .inter file.
    by_rank = np.r_[0, 1 + np.argsort(rows.item_tokens[1:])]
    rank = np.argsort(by_rank)
    weights = weights[by_rank]
    drawn = np.empty((len(rows.history_ids), n), dtype=np.int64)
    left = np.full(len(rows.history_ids), n)
    for i, (history_id, user, target) in enumerate(zip(rows.history_ids, rows.user_tokens, rows.targets, strict=True)):
        history = rows.histories[history_id]
        excluded = np.unique(rank[np.append(history, target) if exclude_history else [target]])
        key = hashlib.blake2b(f"{seed}|{user}|{len(history)}|{rows.item_tokens[target]}".encode(), digest_size=16)
        row = _draw_one(np.random.default_rng(int.from_bytes(key.digest(), "big")), weights, excluded, n)
        if row is None:
            left[i] = (np.delete(weights, excluded) > 0).sum()
        else:
            drawn[i] = by_rank[row]
    if (left < n).any():
        scarcest = int(left.argmin())
        raise UserError(
            f"user '{rows.user_tokens[scarcest]}' leaves {left[scarcest]} items to draw from, {n} candidates were asked"
            f" for: ask for fewer (eval_args: {{mode: {distribution[:3]}{left[scarcest]}}})"
            + (" or allow items of the history (candidate_exclusion: target)" if exclude_history else "")
        )
    return drawn


def _draw_one(rng: np.random.Generator, weights: npt.NDArray[np.float64], excluded: Ids, n: int) -> Ids | None:
    """n different items by weight, one after the other without replacement; None when there are not enough."""
    if len(weights) > 50 * (n + len(excluded)) and (weights[1:] == 1).all():
        # Few of many equals: rejection is the same distribution, without touching the whole catalogue.
        chosen: dict[int, None] = {}
        banned = set(excluded.tolist())
        while len(chosen) < n:
            chosen.update((i, None) for i in rng.integers(1, len(weights), 2 * n).tolist() if i not in banned)
        return np.fromiter(chosen, dtype=np.int64)[:n]
    allowed = weights.copy()
    allowed[excluded] = 0
    candidates = np.flatnonzero(allowed)
    if len(candidates) < n:
        return None
    # The n smallest of exponential clocks with these rates are a draw without replacement.
    clocks = rng.exponential(size=len(candidates)) / allowed[candidates]
    first = np.argpartition(clocks, n - 1)[:n]
    return candidates[first[np.argsort(clocks[first])]]


def _save(path: Path, drawn: CandidateSet) -> None:
    try:
        with whole_file(path) as file:
            np.savez_compressed(file, history_ids=drawn.history_ids, items=drawn.items, digest=np.array(drawn.digest))
    except OSError as error:
        raise UserError(
            f"candidate set {path} cannot be written: {error.strerror or error}; set candidate_dir to a writable folder"
        ) from error


def _load(path: Path, rows: _Rows) -> CandidateSet:
    try:
        with np.load(path, allow_pickle=False) as file:
            saved = CandidateSet(file["history_ids"], file["items"], str(file["digest"]))
        intact = (
            np.array_equal(saved.history_ids, rows.history_ids)
            and bool((saved.items > 0).all())
            and rows.digest(saved.items) == saved.digest
        )
    except Exception as error:  # a damaged archive fails in as many ways as its bytes can change
        raise UserError(f"candidate set {path} cannot be read ({error}): delete it to draw it again") from error
    if not intact:
        raise UserError(f"candidate set {path} was changed since it was drawn: delete it to draw it again")
    return saved
