"""Checks of a run's options beyond single values: names, and combinations that are not possible."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from recbole.utils import EvaluatorType

from recbole_llmtrsr.config.candidate_modes import candidate_mode, impression_faults
from recbole_llmtrsr.config.metric_names import result_names
from recbole_llmtrsr.config.option_kinds import options_of
from recbole_llmtrsr.errors import did_you_mean

_KEYS = {
    "eval_args": ("split", "order", "group_by", "mode"),
    "train_neg_sample_args": ("distribution", "sample_num", "alpha", "dynamic", "candidate_num"),
}


def faults_of_prefixes(names: Collection[str], models: Collection[str]) -> Iterator[str]:
    """Options such as 'SASRec.epochs' or 'LLMTRSR@recurrent.summary' whose model does not exist."""
    for name in names:
        prefix, dot, _ = name.rpartition(".")
        prefix = prefix.partition("@")[0]
        if dot and prefix not in models:
            hint = did_you_mean(prefix, sorted(models), any_case=True)
            yield f"option '{name}' names the model '{prefix}', which does not exist{hint}"


def faults_of_keys(sources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Unknown keys within options that are mappings."""
    for source in sources:
        for name, value in source.items():
            accepted = _KEYS.get(name.rpartition(".")[-1], ())
            unknown = [key for key in value if key not in accepted] if accepted and isinstance(value, dict) else []
            yield from (f"{name} has no key '{key}'; its keys are {', '.join(accepted)}" for key in unknown)


def faults_of_evaluation(options: Mapping[str, Any]) -> Iterator[str]:
    """Splits that do not exist, and metrics that the mode does not compute."""
    split = options["eval_args"]["split"]
    if not (isinstance(split, dict) and len(split) == 1 and set(split) <= {"LS", "RS", "TS", "US"}):
        yield (
            "eval_args split must be one of {LS: valid_and_test}, {RS: [0.8, 0.1, 0.1]}, {TS: [0.8, 0.1, 0.1]} or"
            f" {{US: [0.8, 0.1, 0.1]}} (by user), got {split!r}"
        )
    known = result_names(options["metrics"], options["topk"])
    if options["eval_type"] == EvaluatorType.RANKING:
        if options["valid_metric"].lower() not in known:
            yield (
                f"valid_metric must be one of the metrics that are computed ({', '.join(known)}), got"
                f" '{options['valid_metric']}': set valid_metric: {known[0]}, or another topk"
            )
        if "labeled" in options["eval_args"]["mode"].values():
            yield (
                f"eval_args mode 'labeled' does not rank items, but metrics {options['metrics']} need a ranking: set"
                " mode: uni20, or metrics: [AUC, LogLoss]"
            )


def faults_of_candidates(options: Mapping[str, Any], also_test: Sequence[str]) -> Iterator[str]:
    """Candidate modes that the split does not allow, and modes of ``also_test`` that conflict with the test's mode."""
    arguments = options["eval_args"]
    is_presplit = options["benchmark_filename"] is not None
    yield from impression_faults(arguments["split"], [*arguments["mode"].values(), *also_test], is_presplit)
    for mode in also_test:
        if candidate_mode(mode) is None:
            yield f"also_test names '{mode}', which has no candidate set: use modes such as pop20, match20, file:<path>"
    names = [made.text for mode in also_test if (made := candidate_mode(mode)) is not None]
    yield from (f"also_test names '{name}' twice: leave one out" for name in {*names} if names.count(name) > 1)
    if also_test and options["eval_type"] != EvaluatorType.RANKING:
        yield f"also_test: {list(also_test)} ranks candidates, but metrics {options['metrics']} do not: leave one out"
    tested = candidate_mode(arguments["mode"]["test"])
    if tested is not None and tested.text in names:
        yield f"also_test names '{tested.text}', which is already the mode of the test: leave it out"


def unread_options(configs: Sequence[Any], of_models: Collection[str]) -> Iterator[str]:
    """Model options (``of_models``) that none of the compared models reads, such as n_heads for GRU4Rec."""
    if any(config.model_class.__module__.partition(".")[0] not in ("recbole", "recbole_llmtrsr") for config in configs):
        return  # no property file lists the options of a registered model
    given = {name for config in configs for name in config.given} & {*of_models} - {*options_of("unlisted")}
    read = {name for config in configs for name in config.internal_config_dict}
    if any(config["transform"] for config in configs):
        read |= {*options_of("transform")}
    labels = ", ".join(dict.fromkeys(config.label for config in configs))
    yield from (f"option '{name}' has no effect: {labels} does not read it" for name in sorted(given - read))
    # Property files may serve several comparisons; a flag is meant for this one.
    compared = {config.model_class.__name__ for config in configs}
    for name in configs[0].cmd_config_dict:
        prefix, dot, _ = name.partition(".")
        if dot and prefix.partition("@")[0] not in compared:
            yield f"flag --{name} has no effect: {prefix} is not compared ({labels})"
