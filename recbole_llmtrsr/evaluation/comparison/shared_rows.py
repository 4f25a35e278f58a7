"""The rows that all runs of a comparison ranked, in one order for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from recbole.utils import dataset_arguments, evaluation_arguments

from recbole_llmtrsr.config.option_kinds import options_of
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.evaluation.comparison.runs import Run
from recbole_llmtrsr.evaluation.comparison.statistics import Floats
from recbole_llmtrsr.evaluation.per_history import metric_names

_KEY = ["user_id", "n_events"]
_SET = ["n_positives", "n_candidates"]
# All other options decide the rows of training, validation and test, or the weight of these rows.
_NO_PROTOCOL = {*options_of("model"), *options_of("labels"), *options_of("model type"), "eval_args"}
_PROTOCOL = [
    name for name in (*dataset_arguments, *evaluation_arguments, "encoding", "catalogue") if name not in _NO_PROTOCOL
]
_OF_A_SEED = {*options_of("free"), *options_of("seed")}  # and the paths of a seed's files
_SHARED_FILES = (".inter", ".impressions.npz")  # they decide the rows of every model
_UNKNOWN = object()
_Options = Mapping[str, Any] | None  # effective options; None or empty for runs of other programs


@dataclass(frozen=True)
class Scores:
    """The values of a label's runs, row by row.

    Attributes:
        seeds: of the runs.
        of_seeds: nan where a metric was not measured or has no value. [n_seeds, n_rows, n_metrics]
        changes: by ablation, changed minus unchanged prompts, for seeds that have it. [n_seeds, n_rows, n_metrics]
        trimmed: whether a row's prompt was trimmed with any seed; unknown where there are no prompts. [n_rows]
    """

    seeds: tuple[int, ...]
    of_seeds: Floats
    changes: dict[str, Floats]
    trimmed: pd.Series


@dataclass(frozen=True)
class SharedRows:
    """The rows of a comparison.

    Attributes:
        rows: keys and features; a feature that one run lacks comes from another run.
        metrics: names, in the order in which they were measured.
        weights: of a row in a metric's mean; 0 where it has no value. [n_rows, n_metrics]
        scores: by label.
    """

    rows: pd.DataFrame
    metrics: list[str]
    weights: Floats
    scores: dict[str, Scores]


def check_comparable(runs: Sequence[Run]) -> None:
    """Check that runs can be compared.

    Raises:
        UserError: they differ in data set, candidates, split, filters or catalogue, one is given twice, or the runs of
            a label differ in more than the seed.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.result["dataset"] != first.result["dataset"]:
            raise UserError(
                f"{run} ran on {run.result['dataset']}, {first} on {first.result['dataset']}: compare runs of one data"
                " set"
            )
        expected, found = (_candidate_hash(r.result) for r in (first, run))
        if found != expected:
            raise UserError(
                f"{run} ranked other test candidates ({found[:12]}) than {first} ({expected[:12]}): run all models of a"
                " comparison with the same eval_args, data_seed, filters and columns"
            )
    _check_same_files(runs)
    _check_same_protocol(runs)
    named = [(run.label, run.seed) for run in runs]
    twice = sorted({f"{label} with seed {seed}" for label, seed in named if named.count((label, seed)) > 1})
    if twice:
        raise UserError(
            f"{', '.join(twice)} is given twice: give each run once, and run other settings of a model under another"
            " name, such as LLMTRSR@recurrent"
        )
    _check_one_model_a_label(runs)


def share_rows(runs: Sequence[Run]) -> SharedRows | None:
    """Bring the rows of all runs into one order, that of users and events.

    Returns:
        None if no run ranked anything.

    Raises:
        UserError: two runs did not rank the same histories among as many candidates.
    """
    ranked = [run for run in runs if run.per_history is not None]
    if not ranked:
        return None
    for run in runs:
        if run.per_history is None and run.label in {other.label for other in ranked}:
            raise UserError(
                f"{run} has no table of ranked histories, but other seeds of {run.label} have one: repeat this run"
            )
    tables = [_sorted(run.per_history) for run in ranked]
    for run, table in zip(ranked[1:], tables[1:]):
        _check_same_rows(str(run), table, str(ranked[0]), tables[0])
    _check_same_popularity(ranked, tables)
    metrics = list(dict.fromkeys(name for table in tables for name in metric_names(table)))
    values = [_values(table, metrics) for table in tables]
    scores: dict[str, Scores] = {}
    for label in dict.fromkeys(run.label for run in ranked):
        of_label = [i for i, run in enumerate(ranked) if run.label == label]
        changes: dict[str, list[Floats]] = {}
        for i in of_label:
            for name, ablation in ranked[i].ablations.items():
                ablated = _sorted(ablation)
                _check_same_rows(f"{ranked[i]} under '{name}'", ablated, str(ranked[i]), tables[i])
                changes.setdefault(name, []).append(_values(ablated, metrics) - values[i])
        scores[label] = Scores(
            tuple(ranked[i].seed for i in of_label),
            np.stack([values[i] for i in of_label]),
            {name: np.stack(found) for name, found in changes.items()},
            pd.concat([tables[i]["prompt_trimmed"] for i in of_label], axis=1).max(axis=1).astype("boolean"),
        )
    return SharedRows(_with_features(tables), metrics, _weights(tables[0], values, metrics), scores)


def _candidate_hash(result: dict[str, Any]) -> str:
    return str((result.get("candidates") or {}).get("test", {}).get("hash", "all items"))


def _check_same_files(runs: Sequence[Run]) -> None:
    """Check that files of one name are equal: event files across all runs, other data files across runs of one label.

    Runs of older versions and of other programs record no files and pass.
    """
    known: dict[tuple[str, str], tuple[Run, str]] = {}
    for run in runs:
        for name, digest in (run.result.get("data_files") or {}).items():
            label = "" if name.endswith(_SHARED_FILES) else run.label
            other, expected = known.setdefault((label, name), (run, digest))
            if digest != expected:
                raise UserError(
                    f"{run} read a different {name} ({digest[:12]}) than {other} ({expected[:12]}): run both on the"
                    " same files"
                )


def _check_one_model_a_label(runs: Sequence[Run]) -> None:
    """Check that runs of one label differ in the seed alone, as far as they record their options."""
    first: dict[str, Run] = {}
    for run in runs:
        other = first.setdefault(run.label, run)
        found, expected = (r.result.get("options") or {} for r in (run, other))
        differing = [
            f"{name}: {found[name]}, not {expected[name]}"
            for name in sorted((found.keys() & expected.keys()) - _OF_A_SEED)
            if _without_place(found[name]) != _without_place(expected[name])
        ]
        read, expected_texts = ((r.result.get("summaries") or {}).get("digest") for r in (run, other))
        if None not in (read, expected_texts) and read != expected_texts:
            raise UserError(
                f"{run} read other summaries than {other} ({read}, not {expected_texts}), so the two differ in more"
                " than the seed: use one summary_store that holds every summary for all seeds, or give runs with other"
                " summaries another name"
            )
        weights = [
            (r.result.get("weights") or {}).get("total") for r in (run, other)
        ]  # tells backbones apart, whose paths may differ
        if None not in weights and weights[0] != weights[1]:
            differing.append(f"{weights[0]:,} weights, not {weights[1]:,}")
        if differing:
            other_name = f"{run.label.partition('@')[0]}@other"
            raise UserError(
                f"{run} ran with {'; '.join(differing[:3])} as {other}: runs of one name must be seeds of one model;"
                f" give runs with other settings another name, such as {other_name}, when you run them or in the"
                f" report: python -m recbole_llmtrsr.report {other_name}=<folder> ..."
            )


def _without_place(value: object) -> object:
    """An option without the path of a file, which differs between seeds where each has its backbone or retriever."""
    return Path(value).suffix if isinstance(value, str) and len(Path(value).parts) > 1 else value


def protocol_faults(options: Mapping[str, Any], verb: str = "runs") -> list[str]:
    """Messages on options that must agree between the rows of a comparison and do not.

    Args:
        options: effective options by the name of the row; a missing option, as of another program, is ignored.
        verb: of the messages.
    """
    return _faults({name: _protocol(of_run, _kind(of_run)) for name, of_run in options.items()}, verb)


def _check_same_protocol(runs: Sequence[Run]) -> None:
    """Check that runs were tested on the same rows with the same weights, as far as they record it."""
    protocols = {}
    for run in runs:
        options = run.result.get("options")
        kind = "candidates" if "hash" in (run.result.get("candidates") or {}).get("test", {}) else _kind(options)
        protocols[str(run)] = _protocol(options, kind)
        if kind == "full":
            protocols[str(run)]["exclude_seen"] = _excludes_seen(options)
        if run.per_history is None:  # else its rows are compared
            protocols[str(run)]["number of test targets"] = run.result.get("n_test", _UNKNOWN)
    faults = _faults(protocols, "ran")
    if faults:
        raise UserError([*faults, "run all models of a comparison with the same split, order, filters and catalogue"])


def _faults(protocols: Mapping[str, Mapping[str, Any]], verb: str) -> list[str]:
    """For every option, the first name whose value differs from that of the first name."""
    faults = []
    for option in dict.fromkeys(option for protocol in protocols.values() for option in protocol):
        known = [
            (name, found[option]) for name, found in protocols.items() if found.get(option, _UNKNOWN) is not _UNKNOWN
        ]
        for name, value in known:
            if value != known[0][1]:
                faults.append(f"{name} {verb} with {option} {value}, {known[0][0]} with {known[0][1]}")
                break
    return faults


def _protocol(options: _Options, kind: object) -> dict[str, Any]:
    """The options that must agree, for a test of a kind: "candidates", "full" or "labeled"."""
    names = [*_PROTOCOL, *(options_of("labels") if kind == "labeled" else ())]
    return {
        **{f"eval_args.{key}": _option(options, ("eval_args", key)) for key in ("split", "order", "group_by")},
        "eval_args.mode": kind,
        **{name: _option(options, (name,)) for name in names},
        "tied_events": _tied_events(options),
        "data_seed": _seed_of_split(options),
    }


def _kind(options: _Options) -> Any:
    """The kind of test: "candidates" or "full" for rankings, "labeled" for predicted labels."""
    mode = _option(options, ("eval_args", "mode", "test"))
    return mode if mode in (_UNKNOWN, "full", "labeled") else "candidates"


def _excludes_seen(options: _Options) -> Any:
    """Whether full ranking leaves out the items of the history."""
    rule, kind = (_option(options, (name,)) for name in ("exclude_seen", "MODEL_TYPE"))
    if rule != "auto":
        return rule
    return _UNKNOWN if kind is _UNKNOWN else "no" if kind == "ModelType.SEQUENTIAL" else "yes"


def _seed_of_split(options: _Options) -> Any:
    """The seed of a random split; splits by time or by the last events of each user need none."""
    split, order = (_option(options, ("eval_args", key)) for key in ("split", "order"))
    if not options or split is _UNKNOWN or not ("US" in split or order == "RO"):
        return _UNKNOWN
    seed = options.get("data_seed")
    return options.get("seed", _UNKNOWN) if seed is None else seed


def _option(options: _Options, path: Sequence[str]) -> Any:
    found: Any = options
    for name in path:
        found = found.get(name, _UNKNOWN) if isinstance(found, dict) else _UNKNOWN
    return found


def _tied_events(options: _Options) -> Any:
    """The order of tied events; older versions kept that of the file."""
    if not options:
        return _UNKNOWN
    seed = options.get("data_seed")
    drawn = f"random, by data_seed {options.get('seed') if seed is None else seed}"
    return drawn if options.get("tied_events") == "random" else "file"


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of their keys; rows of one key, which pre-split files may hold, in that of their targets."""
    return table.sort_values([*_KEY, *_SET, "target"], kind="stable", ignore_index=True)


def _check_same_rows(name: str, table: pd.DataFrame, expected_name: str, expected: pd.DataFrame) -> None:
    remedy = "compare runs with the same eval_args, data_seed and filters"
    if not table[_KEY].equals(expected[_KEY]):
        found, wanted = (pd.MultiIndex.from_frame(t[_KEY]) for t in (table, expected))
        only = found.difference(wanted)
        example = f", such as user {only[0][0]} after {only[0][1]} events" if len(only) else ""
        raise UserError(
            f"{name} ranked {len(found)} histories, {expected_name} ranked {len(wanted)}; {len(only)} of the former and"
            f" {len(wanted.difference(found))} of the latter are missing from the other run{example}: {remedy}"
        )
    # Which of several positives is named as the target is arbitrary, unless the target alone distinguishes rows.
    must_agree = (table["n_positives"] == 1) | table.duplicated(_KEY, keep=False)
    differing = {
        **{column: table[column] != expected[column] for column in _SET},
        "target": (table["target"] != expected["target"]) & must_agree,
    }
    for column, differs in differing.items():
        if differs.any():
            raise UserError(
                f"{name} has another {column} than {expected_name} in {int(differs.sum())} of {len(table)} histories:"
                f" {remedy}"
            )


def _check_same_popularity(runs: Sequence[Run], tables: Sequence[pd.DataFrame]) -> None:
    """Check that groups by popularity agree; an older version counted the first of several targets."""
    known = [(run, table["target_popularity"]) for run, table in zip(runs, tables)]
    known = [(run, popularity) for run, popularity in known if popularity.notna().any()]
    for run, popularity in known[1:]:
        n = int((popularity != known[0][1]).fillna(True).sum())
        if n:
            raise UserError(
                f"{run} counts the training events of the targets differently from {known[0][0]} in {n} of"
                f" {len(popularity)} histories: an older version made one of the two, repeat that run"
            )


def _values(table: pd.DataFrame, metrics: Sequence[str]) -> Floats:
    """[n_rows, n_metrics], nan for a metric that was not measured."""
    return table.reindex(columns=list(metrics)).to_numpy(dtype=np.float64)


def _weights(table: pd.DataFrame, values: Sequence[Floats], metrics: Sequence[str]) -> Floats:
    known = ~np.isnan(np.stack(values)).all(axis=0)
    by_metric = [table["n_positives"] if name == "gauc" else np.ones(len(table)) for name in metrics]
    return np.stack(by_metric, axis=1).astype(np.float64) * known


def _with_features(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    rows = tables[0].copy()
    for name in ("target_popularity", "target_words"):
        rows[name] = next((table[name] for table in tables if table[name].notna().any()), rows[name])
    return rows
