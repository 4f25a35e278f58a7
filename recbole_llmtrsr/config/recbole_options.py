"""Checks the values of RecBole's options before any work. RecBole reports wrong values late, by a traceback, or never.

Without these checks a misspelt interval filters nothing, an unknown optimizer becomes Adam, and `rm_dup_inter: False`
removes every repeated event. Values that depend on the model are checked by building it (`rehearsal`).
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

_INTERVAL = re.compile(r"[\[(]\s*([^,\s]+)\s*,\s*([^,\s]+)\s*[\])]")
_SHARES = "three numbers >= 0, the first above 0, such as [0.8, 0.1, 0.1]"
_LEAVE_OUT = ("valid_and_test", "valid_only", "test_only")
_CLIP_KEYS = ("max_norm", "norm_type", "error_if_nonfinite", "foreach")


def is_interval(value: object) -> bool:
    """Whether RecBole, which converts the value to a string, can parse it as intervals of numbers.

    >>> [is_interval(value) for value in ("[5,inf)", "(0, 1];[3,4)", [5, 9], "[5,inf", "[5;inf)", "[4,3]", 5)]
    [True, True, True, False, False, False, False]
    """
    for part in str(value).split(";"):
        found = _INTERVAL.fullmatch(part.strip())
        try:
            low, high = map(float, found.groups()) if found else (math.nan, math.nan)
        except ValueError:
            return False
        if not low <= high:
            return False
    return True


INTERVAL_WORDS = "an interval such as '[5,inf)' or '(0,10]', or several with ; between them"


@dataclass(frozen=True)
class _Accepted:
    test: Callable[[Any], bool]
    words: str

    def or_none(self) -> _Accepted:
        return _Accepted(lambda value: value is None or self.test(value), f"{self.words}, or ~")


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _number(low: float) -> _Accepted:
    return _Accepted(lambda value: _is_number(value) and value >= low, f"a number >= {low}")


def _whole(low: int, high: float = math.inf) -> _Accepted:
    words = f"a whole number >= {low}" if high == math.inf else f"a whole number from {low} to {high}"
    return _Accepted(lambda value: _is_number(value) and value == int(value) and low <= value <= high, words)


def _word(*words: str) -> _Accepted:
    return _Accepted(lambda value: isinstance(value, str) and value.lower() in words, f"one of {', '.join(words)}")


def _is_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) and name for name in value)


def _is_mapping(value: object, of: Callable[[object], bool]) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) and of(one) for key, one in value.items())


_FLAG = _Accepted(lambda value: isinstance(value, bool) or value in (0, 1), "True or False")
_TEXT = _Accepted(lambda value: isinstance(value, str) and value != "", "a non-empty string")
_PATH = _Accepted(lambda value: isinstance(value, os.PathLike) or _TEXT.test(value), "a path")
_NAMES = _Accepted(_is_names, "a list of columns, such as [title, brand]")
_COLUMNS = _Accepted(
    lambda value: _is_mapping(value, _is_names), "a mapping of files to columns, such as {item: [item_id, title]}"
)
_LOADED = _Accepted(lambda value: _is_mapping(value, lambda one: one == "*" or _is_names(one)), _COLUMNS.words)
_INTERVALS = _Accepted(is_interval, INTERVAL_WORDS)
_CLIPPING = _Accepted(
    lambda value: isinstance(value, Mapping) and set(value) <= {*_CLIP_KEYS} and _is_number(value.get("max_norm")),
    f"the arguments of torch's clip_grad_norm_, such as {{max_norm: 1.0}} ({', '.join(_CLIP_KEYS)})",
)
_FILTERS = _Accepted(
    lambda value: _is_mapping(value, lambda one: is_interval(one) or isinstance(one, list | tuple)),
    f"a mapping of columns to {INTERVAL_WORDS}, such as {{rating: '[3,inf)'}}; a token column maps to a list of tokens",
)
_THRESHOLD = _Accepted(
    lambda value: _is_mapping(value, _is_number) and len(value) == 1,
    "a mapping of one column to a number, such as {rating: 4}",
)
_METRICS = _Accepted(
    lambda value: (isinstance(value, str) or _is_names(value)) and len(value) > 0,
    "a list of metrics, such as [Recall, MRR, NDCG]",
)
_TOPK = _Accepted(
    lambda value: value is not None and all(map(_whole(1).test, value if isinstance(value, list | tuple) else [value])),
    "a whole number >= 1 or a list of them, such as [3, 5, 10]",
)
_LENGTHS = _Accepted(
    lambda value: _is_mapping(value, _whole(1).test), "a mapping of columns to lengths, such as {title: 20}"
)

_BY_KIND = {
    _whole(0): ("eval_step", "stopping_step", "worker", "loss_decimal_place"),
    _whole(1): ("epochs", "train_batch_size", "eval_batch_size", "MAX_ITEM_LIST_LENGTH"),
    _whole(0, 2**32 - 1): ("seed",),
    _number(0): ("learning_rate", "weight_decay"),
    _FLAG: (
        *("use_gpu", "reproducibility", "show_progress", "log_wandb", "shuffle", "require_pow", "enable_amp"),
        *("enable_scaler", "repeatable", "filter_inter_by_user_or_item", "kg_reverse_r"),
    ),
    _FLAG.or_none(): ("normalize_all",),
    _METRICS: ("metrics",),
    _TOPK: ("topk",),
    _word("debug", "info", "warning", "error", "critical").or_none(): ("state",),
    _word("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam"): ("learner",),
    _word("first", "last").or_none(): ("rm_dup_inter",),
    _word("mask_itemseq", "inverse_itemseq", "crop_itemseq", "reorder_itemseq", "user_defined").or_none(): (
        "transform",
    ),
    _CLIPPING.or_none(): ("clip_grad_norm",),
    _TEXT: (
        *("USER_ID_FIELD", "ITEM_ID_FIELD", "LABEL_FIELD", "NEG_PREFIX", "LIST_SUFFIX", "ITEM_LIST_LENGTH_FIELD"),
        *("field_separator", "seq_separator", "wandb_project", "valid_metric"),
    ),
    _PATH: ("data_path", "checkpoint_dir"),
    _TEXT.or_none(): ("TIME_FIELD", "RATING_FIELD"),
    _LOADED.or_none(): ("load_col",),
    _COLUMNS.or_none(): ("unload_col", "unused_col"),
    _FILTERS.or_none(): ("val_interval",),
    _THRESHOLD.or_none(): ("threshold",),
    _LENGTHS.or_none(): ("seq_len",),
    _NAMES: ("numerical_features",),
    _NAMES.or_none(): (
        *("alias_of_user_id", "alias_of_item_id", "alias_of_entity_id", "alias_of_relation_id", "normalize_field"),
    ),
    _INTERVALS.or_none(): (
        *("user_inter_num_interval", "item_inter_num_interval", "entity_kg_num_interval", "relation_kg_num_interval"),
    ),
}
_ACCEPTED: Mapping[str, _Accepted] = {name: accepted for accepted, names in _BY_KIND.items() for name in names}

# Options that a transform needs and that no property file of RecBole sets for a model without a transform.
_TRANSFORM_NEEDS = {"mask_itemseq": "mask_ratio", "crop_itemseq": "eta", "reorder_itemseq": "beta"}

# Options that RecBole's runner reads and this one does not, with the reason or the alternative.
WITHOUT_EFFECT: Mapping[str, str] = {
    "save_dataset": "every run reads the atomic files again",
    "save_dataloaders": "candidates are saved in candidate_dir, and data_seed determines the splits",
    **dict.fromkeys(
        ("nproc", "world_size", "offset", "ip", "port"), "start several processes with accelerate launch or torchrun"
    ),
    "metric_decimal_place": "result.json holds all digits",
    "valid_metric_bigger": "RecBole derives it from the metric",
}


def faults_of_recbole_options(
    options: Mapping[str, Any], given: Mapping[str, Any], has_input_type: bool
) -> Iterator[str]:
    """Values that RecBole would refuse late, replace by a default, or ignore.

    Args:
        options: all options of RecBole, by name, before its Config completes them.
        given: those that the user set.
        has_input_type: whether the model class defines its input type; otherwise ``loss_type`` does.
    """
    for name, accepted in _ACCEPTED.items():
        if name in options and not accepted.test(options[name]):
            yield f"{name} must be {accepted.words}, got {options[name]!r}"
    loss = options.get("loss_type")
    if not has_input_type and "loss_type" in options and loss not in ("CE", "BPR"):
        yield f"loss_type must be one of CE, BPR, got {loss!r}"
    needed = _TRANSFORM_NEEDS.get(str(options.get("transform")))
    if needed is not None and not _is_number(options.get(needed)):
        yield f"transform: {options['transform']} needs {needed}, a share of the history such as {needed}: 0.3"
    if options.get("log_wandb") and not _is_installed("wandb"):
        yield "log_wandb: True needs the package wandb: pip install wandb, or leave it out"
    if "local_rank" in given:
        yield "the launcher sets local_rank: leave it out, and start with accelerate launch or torchrun"
    if isinstance(options.get("eval_args"), Mapping):
        yield from _faults_of_protocol(options["eval_args"])
    yield from _faults_of_negatives(options.get("train_neg_sample_args"))


def faults_of_kinds(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """Options whose value has another type than the default in RecBole's files, such as a word for a number."""
    for name, value in given.items():
        default = defaults.get(name)
        if name in _ACCEPTED or name == "reranker_CAN_NUM" or default is None:  # one number, or several in a text
            continue
        if isinstance(default, bool):
            if not _FLAG.test(value):
                yield f"{name} must be {_FLAG.words}, like its default {default}, got {value!r}"
        elif isinstance(default, Real) and not (_is_number(value) or value is None):
            kind = "a whole number" if isinstance(default, Integral) else "a number"
            yield f"{name} must be {kind}, like its default {default}, got {value!r}"
        elif isinstance(default, Integral) and name.endswith("_size") and value is not None and value < 1:
            yield f"{name} must be >= 1, got {value!r}"  # with 0 RecBole trains a model without weights


def _faults_of_protocol(arguments: Mapping[str, Any]) -> Iterator[str]:
    split, order, group_by = (arguments.get(name) for name in ("split", "order", "group_by"))
    if order not in ("RO", "TO"):
        yield f"eval_args order must be TO (by time) or RO (random), got {order!r}"
    if group_by not in ("user", "none", "None", None):
        yield f"eval_args group_by must be user or none, got {group_by!r}"
    if not isinstance(split, Mapping):  # `faults_of_evaluation` reports it, with the splits that exist
        return
    for name in ("RS", "TS"):
        shares = split.get(name)
        if name in split and not (
            isinstance(shares, list) and len(shares) == 3 and all(map(_number(0).test, shares)) and shares[0] > 0
        ):
            yield f"eval_args split {name} must be {_SHARES}, got {shares!r}"
    if "LS" in split and split["LS"] not in _LEAVE_OUT:
        yield f"eval_args split LS must be one of {', '.join(_LEAVE_OUT)}, got {split['LS']!r}"


def _faults_of_negatives(arguments: object) -> Iterator[str]:
    if not isinstance(arguments, Mapping) or arguments.get("distribution") in (None, "none", "None"):
        return
    accepted = {"sample_num": _whole(1), "alpha": _number(0), "dynamic": _FLAG, "candidate_num": _whole(0)}
    for name, one in accepted.items():
        if name in arguments and not one.test(arguments[name]):
            yield f"train_neg_sample_args {name} must be {one.words}, got {arguments[name]!r}"
