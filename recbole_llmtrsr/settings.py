"""Every option of the plugin: typed, documented and validated in one place, before anything heavy is loaded.

The options are flat in property files and flags (``--block_size=5``); here they are grouped by the stage that reads
them. RecBole's own options (``epochs``, ``learning_rate``, ``eval_args`` ...) stay RecBole's and are not repeated.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

from recbole_llmtrsr.errors import UserError


def option(default: Any, doc: str, *, choices: tuple[str, ...] = (), minimum: float | None = None) -> Any:
    """A dataclass field that explains and bounds itself.

    Args:
        default: value when the user says nothing.
        doc: one line with unit, effect and, where it comes from the paper, the section.
        choices: accepted strings; empty means any.
        minimum: smallest accepted number.
    """
    metadata = {"doc": doc, "choices": choices, "minimum": minimum}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class DataSettings:
    """What is read from the atomic files."""

    item_text_fields: tuple[str, ...] | None = option(
        None, "Columns of the .item file that make an item's text, in this order; ~ takes every column but floats."
    )
    item_text_labels: bool = option(True, "Write 'column: value' (paper) or the bare values, which are fewer tokens.")
    max_train_targets_per_user: int | None = option(
        None, "Latest training targets kept per user, which bounds training time; ~ keeps all.", minimum=1
    )


@dataclass(frozen=True)
class SummarySettings:
    """How a history becomes a preference summary (paper: hierarchical and recurrent summarization)."""

    summary: str = option(
        "hierarchical",
        "Paradigm: each block then a merge, each block updates the summary, or no summary at all.",
        choices=("hierarchical", "recurrent", "none"),
    )
    summarizer: str = option(
        "extractive", "Who writes: 'extractive' (no model) or a transformers model name or folder (greedy decoding)."
    )
    block_size: int = option(5, "Items per block, counted from the user's first event (paper: 5).", minimum=1)
    max_blocks: int | None = option(None, "Most recent blocks that are summarized (paper: 5); ~ takes all.", minimum=1)
    summarizer_max_new_tokens: int = option(160, "Longest text, in tokens, of one call of an LLM writer.", minimum=1)
    summarizer_batch_size: int = option(16, "Prompts per generate call of an LLM writer.", minimum=1)


@dataclass(frozen=True)
class PromptSettings:
    """How summary, recent items and candidate become token ids."""

    domain: str = option("generic", "Wording of all prompts.", choices=("generic", "news", "products", "movies"))
    prompt_templates: dict[str, str] = option(  # noqa: RUF009 - it becomes a default_factory
        {}, "Own wording by template name, over the domain's."
    )
    n_recent_items: int = option(10, "Last items of the history shown one by one (paper's code: 5).", minimum=0)
    max_prompt_tokens: int = option(
        1024, "Longest prompt in tokens; recent items and summary are trimmed to it, nothing else.", minimum=16
    )
    max_item_tokens: int = option(128, "Longest item text in tokens; longer ones are cut and counted.", minimum=1)
    max_summary_tokens: int = option(256, "Longest preference summary in tokens; longer ones are cut.", minimum=1)
    answers: tuple[str, ...] = option(("yes", "no"), "The two answers; each must be one token after the answer slot.")
    chat_template: str = option(
        "auto", "Use the tokenizer's chat template when it has one, or never.", choices=("auto", "never")
    )


@dataclass(frozen=True)
class BackboneSettings:
    """The causal LM that reads the prompt, and which of its weights are tuned."""

    backbone: str = option(
        "builtin", "'builtin' (a small LM trained on the spot, no download) or a transformers model name or folder."
    )
    builtin_hidden_size: int = option(128, "Width of the builtin LM.", minimum=8)
    builtin_n_layers: int = option(3, "Layers of the builtin LM.", minimum=1)
    builtin_n_heads: int = option(4, "Attention heads of the builtin LM.", minimum=1)
    builtin_vocab_size: int = option(3000, "Byte-level BPE tokens learned from the item texts.", minimum=300)
    tune: str = option(
        "auto", "Weights to train; auto: all of builtin, LoRA on any other backbone.", choices=("auto", "lora", "all")
    )
    lora_rank: int = option(8, "LoRA rank (paper: 8).", minimum=1)
    lora_alpha: int = option(16, "LoRA scale (paper: 16).", minimum=1)
    lora_dropout: float = option(0.05, "Dropout in front of the LoRA matrices (paper: 0.05).", minimum=0)
    lora_target_modules: tuple[str, ...] | None = option(
        None, "Linear modules that get LoRA; ~ takes the attention projections, or all linear ones if unknown."
    )
    attention: str = option(
        "auto",
        "Shared prefix (one row per history), plain (one row per candidate), or what the probe at load finds exact.",
        choices=("auto", "shared_prefix", "plain"),
    )
    precision: str = option(
        "auto",
        "Number format of frozen weights and autocast; auto: bf16 on a GPU that has it, else fp32.",
        choices=("auto", "fp32", "bf16"),
    )
    gradient_checkpointing: bool = option(False, "Recompute activations in the backward pass to save memory.")
    trust_remote_code: bool = option(False, "Let transformers run code that comes with a model.")


@dataclass(frozen=True)
class TrainingSettings:
    """What the trainer adds to RecBole's own options."""

    loss_on: str = option(
        "answer",
        "Loss on the answer alone, or on every token of prompt and answer (paper).",
        choices=("answer", "full"),
    )
    objective: str = option(
        "listwise",
        "Softmax over a history's candidates, or each candidate on its own (paper).",
        choices=("listwise", "pointwise"),
    )
    gradient_accumulation_steps: int = option(1, "Batches per optimizer step (paper: 8).", minimum=1)
    lr_scheduler: str = option(
        "cosine", "Learning rate over all epochs, after the warm-up.", choices=("cosine", "linear", "constant")
    )
    warmup_ratio: float = option(0.05, "Share of all steps in which the learning rate rises from zero.", minimum=0)
    adam_betas: tuple[float, ...] = option((0.9, 0.95), "Betas of Adam and AdamW (paper: 0.9 and 0.95).")


@dataclass(frozen=True)
class EvaluationSettings:
    """Candidates, limits and where results go; read for every model, RecBole's own too."""

    candidate_exclusion: str = option(
        "history",
        "Sampled candidates avoid the target and the history, or the target alone (paper, RecBole).",
        choices=("history", "target"),
    )
    candidate_dir: str = option("saved/candidates", "Folder that keeps the candidate sets.")
    max_full_sort_scores: int = option(
        5_000_000, "Most scores (histories x items) that full ranking may cost in one evaluation.", minimum=1
    )
    full_sort_chunk_size: int = option(256, "Items scored together with one prefix in full ranking.", minimum=1)
    result_dir: str | None = option(
        None, "Folder of this run's results; ~ makes results/runs/<time>-<model>-<dataset>."
    )
    checkpoint: str | None = option(
        None, "Checkpoint to continue from; when all its epochs are done, it is only evaluated."
    )
    trust_checkpoint: bool = option(
        False, "Un-pickle checkpoints that this run did not write; they can run any code, so only your own."
    )


@dataclass(frozen=True)
class Settings:
    """All options, by stage."""

    data: DataSettings
    summary: SummarySettings
    prompt: PromptSettings
    backbone: BackboneSettings
    training: TrainingSettings
    evaluation: EvaluationSettings

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Settings:
        """Read and check all options at once.

        Args:
            options: option name -> value; names that are not ours are ignored here (see ``unknown_options``).

        Raises:
            UserError: with every fault found, each with its value, what is accepted and the remedy.
        """
        faults: list[str] = []
        groups = {}
        for name, group in get_type_hints(cls).items():
            hints = get_type_hints(group)
            values = {}
            for spec in dataclasses.fields(group):
                if spec.name in options:
                    values[spec.name] = _checked(spec, hints[spec.name], options[spec.name], faults)
            groups[name] = group(**values)
        if not faults:
            faults += _combined_faults(groups)
        if faults:
            raise UserError(faults)
        return cls(**groups)

    def flat(self) -> dict[str, Any]:
        """Every option with its effective value, tuples as lists."""
        merged: dict[str, Any] = {}
        for group in dataclasses.asdict(self).values():
            merged.update({k: list(v) if isinstance(v, tuple) else v for k, v in group.items()})
        return merged


def all_options() -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Yields (group name, field, type) of every option, in the order of the documentation."""
    for name, group in get_type_hints(Settings).items():
        hints = get_type_hints(group)
        for spec in dataclasses.fields(group):
            yield name, spec, hints[spec.name]


OPTION_NAMES: tuple[str, ...] = tuple(spec.name for _, spec, _ in all_options())


def unknown_options(names: Mapping[str, Any], known: set[str]) -> tuple[list[str], list[str]]:
    """Find names that nobody reads.

    Args:
        names: what the user gave, by name.
        known: names that the host reads.

    Returns:
        faults (a near miss of a real option, with that option) and names that resemble nothing.
    """
    faults, strangers = [], []
    candidates = [*OPTION_NAMES, *sorted(known)]
    for name in names:
        if name in known or name in OPTION_NAMES:
            continue
        near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.75)
        if near:
            faults.append(f"option '{name}' does not exist; did you mean '{near[0]}'?")
        else:
            strangers.append(name)
    return faults, strangers


def _checked(spec: dataclasses.Field[Any], kind: Any, value: Any, faults: list[str]) -> Any:
    try:
        value = _as_type(kind, value)
    except TypeError:
        faults.append(f"{spec.name} must be {type_name(kind)}, got {value!r}")
        return None
    choices, minimum = spec.metadata["choices"], spec.metadata["minimum"]
    if choices and value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        faults.append(f"{spec.name} must be one of {', '.join(choices)}, got {value!r}{hint}")
    if minimum is not None and value is not None and not value >= minimum:  # so that NaN is refused
        faults.append(f"{spec.name} must be >= {minimum}, got {value}")
    return value


def _as_type(kind: Any, value: Any) -> Any:
    """The value as the type; what YAML and flags leave open (one string for a list, 1 for 1.0) is settled here."""
    arguments = get_args(kind)
    if type(None) in arguments:
        if value is None or value == "None":
            return None
        return _as_type(next(a for a in arguments if a is not type(None)), value)
    if get_origin(kind) is tuple:
        sequence = [value] if isinstance(value, str | int | float) else value
        if not isinstance(sequence, list | tuple):
            raise TypeError
        return tuple(_as_type(arguments[0], v) for v in sequence)
    if get_origin(kind) is dict:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise TypeError
        return {_as_type(str, k): _as_type(str, v) for k, v in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():  # 1e6
        return int(value)
    if kind is str and value is False:  # YAML reads a bare no, off or false as a boolean
        return "no"
    if kind is str and value is True:
        return "yes"
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError
    return value


def type_name(kind: Any) -> str:
    """The type in words, as messages and the options table print it."""
    arguments = get_args(kind)
    if type(None) in arguments:
        return f"{type_name(next(a for a in arguments if a is not type(None)))} or ~"
    if get_origin(kind) is tuple:
        return f"list of {type_name(arguments[0])}"
    if get_origin(kind) is dict:
        return "mapping of str to str"
    return str(kind.__name__)


def _combined_faults(groups: Mapping[str, Any]) -> Iterator[str]:
    answers = groups["prompt"].answers
    if len(answers) != 2 or answers[0] == answers[1]:
        yield f"answers must be two different words, got {list(answers)}: write answers: [yes, no]"
    if len(groups["training"].adam_betas) != 2 or not all(0 <= b < 1 for b in groups["training"].adam_betas):
        yield f"adam_betas must be two numbers in [0, 1), got {list(groups['training'].adam_betas)}"
    if groups["training"].warmup_ratio > 1:
        yield f"warmup_ratio must be between 0 and 1, got {groups['training'].warmup_ratio}"
    if groups["backbone"].lora_dropout >= 1:
        yield f"lora_dropout must be below 1, got {groups['backbone'].lora_dropout}"
    backbone = groups["backbone"]
    if backbone.builtin_hidden_size % (2 * backbone.builtin_n_heads):
        yield (
            f"builtin_hidden_size must be a multiple of 2 x builtin_n_heads ({2 * backbone.builtin_n_heads}),"
            f" got {backbone.builtin_hidden_size}"
        )
    if groups["training"].loss_on == "full" and groups["training"].objective == "listwise":
        yield "loss_on: full is a next-token loss and has no candidates to compare: set objective: pointwise with it"
    if groups["summary"].summary == "none" and groups["prompt"].n_recent_items == 0:
        yield "summary: none with n_recent_items: 0 leaves nothing of the user: set one of them"
