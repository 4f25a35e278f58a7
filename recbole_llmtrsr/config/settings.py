"""Settings: every option, typed and validated in one place, before models or data are loaded."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from recbole_llmtrsr.config.options import (
    BackboneSettings,
    DataSettings,
    EvaluationSettings,
    ItemModelSettings,
    PromptSettings,
    ResumeSettings,
    RetrievalSettings,
    SummarySettings,
    TextVectorSettings,
    TrainingSettings,
)
from recbole_llmtrsr.config.renamed_options import RENAMED
from recbole_llmtrsr.errors import UserError, did_you_mean

_LIMITS = ("max_tokens", "max_completion_tokens", "max_new_tokens")


def _filled_in(role: str, limit: str) -> dict[str, str]:
    """Fields of a request that the package fills in, and the option that sets each."""
    return {
        "model": f"{role}: openai:<model>@<base url> names it",
        **dict.fromkeys(("messages", "prompt"), "prompt_templates sets the wording of prompts"),
        **dict.fromkeys(_LIMITS, limit),
        **dict.fromkeys(("temperature", "seed"), "answers are greedy, so that one prompt has one answer"),
        **dict.fromkeys(("n", "stream"), f"the {role} reads one complete answer"),
    }


_FILLED_IN = {
    "summarizer": _filled_in("summarizer", "set summarizer_max_new_tokens instead"),
    "scorer": _filled_in("scorer", "the first token of an answer is scored"),
}


@dataclass(frozen=True)
class Settings:
    """All options, by stage."""

    data: DataSettings
    summary: SummarySettings
    prompt: PromptSettings
    backbone: BackboneSettings
    training: TrainingSettings
    text: TextVectorSettings
    items: ItemModelSettings
    retrieval: RetrievalSettings
    resume: ResumeSettings
    evaluation: EvaluationSettings

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Settings:
        """Read and check all options at once; other names are ignored (see ``unknown_options``).

        Raises:
            UserError: with every error found, each with its value, the accepted values and the remedy.
        """
        faults: list[str] = []
        groups = {}
        for name, group in get_type_hints(cls).items():
            hints = get_type_hints(group)
            given = [spec for spec in dataclasses.fields(group) if spec.name in options]
            groups[name] = group(**{s.name: _checked(s, hints[s.name], options[s.name], faults) for s in given})
        settings = cls(**groups)
        if faults := faults or [*_combined_faults(settings)]:
            raise UserError(faults)
        return settings

    def flat(self) -> dict[str, Any]:
        """Every option with its effective value, tuples as lists."""
        merged: dict[str, Any] = {}
        for group in dataclasses.asdict(self).values():
            merged.update({k: list(v) if isinstance(v, tuple) else v for k, v in group.items()})
        return merged


def all_options() -> Iterator[tuple[str, dataclasses.Field[Any], object]]:
    """Yields (group name, field, type) of every option, in the order of the documentation."""
    for name, group in get_type_hints(Settings).items():
        hints = get_type_hints(group)
        for spec in dataclasses.fields(group):
            yield name, spec, hints[spec.name]


OPTION_NAMES: tuple[str, ...] = tuple(spec.name for _, spec, _ in all_options())


def unknown_options(names: Mapping[str, Any], known: set[str]) -> tuple[list[str], list[str]]:
    """Find names that neither this package nor RecBole (``known``) reads.

    Returns:
        messages for misspelt options, with the nearest existing name, and the names that resemble no option.
    """
    faults, strangers = [], []
    candidates = [*OPTION_NAMES, *RENAMED, *sorted(known)]
    for name in names:
        if name in known or name in OPTION_NAMES:
            continue
        if hint := did_you_mean(name, candidates, cutoff=0.75):
            for before, now in RENAMED.items():
                hint = hint.replace(f"'{before}'", f"'{now}' (formerly {before})")
            faults.append(f"option '{name}' does not exist{hint}")
        else:
            strangers.append(name)
    return faults, strangers


def _checked(spec: dataclasses.Field[Any], kind: object, value: object, faults: list[str]) -> Any:
    if spec.metadata["is_id"] and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    try:
        value = _as_type(kind, value)
    except TypeError:
        faults.append(f"{spec.name} must be {type_name(kind)}, got {value!r}")
        return None
    choices, minimum = spec.metadata["choices"], spec.metadata["minimum"]
    if choices and value is not None and value not in choices:
        hint = did_you_mean(str(value), choices)
        faults.append(f"{spec.name} must be one of {', '.join(choice_names(spec, kind))}, got {value!r}{hint}")
    if minimum is not None and value is not None and not value >= minimum:  # so that NaN is refused
        faults.append(f"{spec.name} must be >= {minimum}, got {value}")
    return value


def _as_type(kind: object, value: object) -> Any:
    """Convert a value to the type, also from other forms in YAML and flags (one string for a list, 1 for 1.0)."""
    arguments = get_args(kind)
    if type(None) in arguments:
        if value is None or value == "None":
            return None
        return _as_type(next(a for a in arguments if a is not type(None)), value)
    if get_origin(kind) is tuple:
        # A flag such as title,brand is a list; a name that contains a comma needs a list in brackets.
        sequence = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int | float) else value
        if not isinstance(sequence, list | tuple):
            raise TypeError
        return tuple(_as_type(arguments[0], v) for v in sequence)
    if get_origin(kind) is dict:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise TypeError
        return {_as_type(str, k): _as_type(arguments[1], v) for k, v in value.items()}
    if kind is Any:  # any value that JSON can represent
        try:
            return json.loads(json.dumps(value, allow_nan=False))
        except ValueError as error:
            raise TypeError from error
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():  # 1e6
        return int(value)
    if kind is str and value is False:  # YAML reads a bare no, off or false as a boolean
        return "no"
    if kind is str and value is True:
        return "yes"
    assert isinstance(kind, type)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError
    return value


def choice_names(spec: dataclasses.Field[Any], kind: object) -> tuple[str, ...]:
    """The accepted values of an option with choices, including ~ if it is optional; empty for other options."""
    choices: tuple[str, ...] = spec.metadata["choices"]
    return (*choices, "~") if choices and type(None) in get_args(kind) else choices


def type_name(kind: object) -> str:
    """The type in words, for messages and the table of options."""
    arguments = get_args(kind)
    if type(None) in arguments:
        return f"{type_name(next(a for a in arguments if a is not type(None)))} or ~"
    if get_origin(kind) is tuple:
        return f"list of {type_name(arguments[0])}"
    if get_origin(kind) is dict:
        return "mapping" if arguments[1] is Any else "mapping of str to str"
    assert isinstance(kind, type)
    return kind.__name__


def _server_faults(role: str, server: str, request: Mapping[str, Any], key_variable: str) -> Iterator[str]:
    """Faults of the options of requests to a server; ``server`` is the value of the option ``role``."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key_variable):
        yield (
            f"{role}_api_key_variable must be the name of an environment variable (letters, digits and _), such as"
            f" {role.upper()}_API_KEY; the given value is not shown, because it may be a key"
        )
    for name in request:
        if name in _FILLED_IN[role]:
            yield f"{role}_request cannot set {name}: {_FILLED_IN[role][name]}"
    if request and not server.startswith("openai:"):
        yield (
            f"{role}_request {request} applies to a server only: leave it out, or set {role}: openai:<model>@<base url>"
        )


def _combined_faults(settings: Settings) -> Iterator[str]:
    summary, prompt, backbone, training = settings.summary, settings.prompt, settings.backbone, settings.training
    if len(prompt.answers) != 2 or prompt.answers[0] == prompt.answers[1]:
        yield f"answers must be two different words, got {list(prompt.answers)}: write answers: [yes, no]"
    if len(training.adam_betas) != 2 or not all(0 <= b < 1 for b in training.adam_betas):
        yield f"adam_betas must be two numbers in [0, 1), got {list(training.adam_betas)}"
    if training.warmup_ratio > 1:
        yield f"warmup_ratio must be between 0 and 1, got {training.warmup_ratio}"
    if backbone.lora_dropout >= 1:
        yield f"lora_dropout must be below 1, got {backbone.lora_dropout}"
    if backbone.builtin_hidden_size % (2 * backbone.builtin_n_heads):
        yield (
            f"builtin_hidden_size must be a multiple of 2 x builtin_n_heads ({2 * backbone.builtin_n_heads}),"
            f" got {backbone.builtin_hidden_size}"
        )
    if backbone.backbone_layers is not None and backbone.backbone == "builtin":
        yield (
            f"backbone_layers: {backbone.backbone_layers} keeps the first layers of a pretrained backbone, and backbone"
            f" is builtin: set builtin_n_layers: {backbone.backbone_layers} instead, or choose another backbone"
        )
    if training.loss_on == "full" and training.objective == "listwise":
        yield "loss_on: full is a next-token loss, which does not compare candidates: set objective: pointwise with it"
    if training.loss_on == "full" and training.objective == "regression":
        yield "loss_on: full is a next-token loss, which cannot predict ratings: set objective: pointwise with it"
    request, variable = summary.summarizer_request, summary.summarizer_api_key_variable
    yield from _server_faults("summarizer", summary.summarizer, request, variable)
    yield from _server_faults(
        "scorer", backbone.scorer or "", backbone.scorer_request, backbone.scorer_api_key_variable
    )
    planned = summary.summary != "none" and not summary.summarizer.startswith("file:")
    if planned and not summary.with_remainder and prompt.n_recent_items < summary.block_size - 1:
        yield (
            f"n_recent_items must be at least block_size - 1 = {summary.block_size - 1}, got {prompt.n_recent_items},"
            f" because with summarize_remainder: {summary.summarize_remainder} and summarizer '{summary.summarizer}' an"
            " unfinished block is left to the recent items: raise n_recent_items or set summarize_remainder: yes"
        )
    for name in ("blend", "hard_negative_ratio"):
        share = getattr(settings.retrieval, name)
        if share is not None and share > 1:
            yield f"{name} must be between 0 and 1, got {share}"
    if settings.items.vector_dropout >= 1:
        yield f"vector_dropout must be below 1, got {settings.items.vector_dropout}"
    if summary.summary == "none" and prompt.n_recent_items == 0:
        yield "summary: none with n_recent_items: 0 leaves no history in the prompt: change one of them"
