"""Every option of the plugin, documented where it is declared.

The options are flat in property files and flags (``--block_size=5``); here they are grouped by the stage that reads
them. RecBole's own options (``epochs``, ``learning_rate``, ``eval_args`` ...) stay RecBole's and are not repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["free", "seed", "place"]
"""Where an option may differ: a 'free' one between runs of equal results (where files lie, time-outs, what is shown or
kept); one of 'seed', like a free one, between the seeds of one model; a 'place' between a run and a later load of it
(where things are and how fast they go)."""


def option(
    default: object,
    doc: str,
    *,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    is_id: bool = False,
    names: Literal["", "text", "model", "read", "written"] = "",
    kinds: tuple[Kind, ...] = (),
) -> Any:
    """A dataclass field with its documentation and bounds.

    Args:
        default: value when the user sets none.
        doc: one line with unit, effect and, where it comes from the paper, the section.
        choices: accepted strings; empty means any.
        minimum: smallest accepted number.
        is_id: a name from the user's files, where digits are text.
        names: what free text names, which a run folder from elsewhere may not decide: a model (a folder, or a name on
            the hub or of a server), a file or folder that is read or written, or nothing of the kind ('text').
        kinds: see ``Kind``.
    """
    metadata = {"doc": doc, "choices": choices, "minimum": minimum, "is_id": is_id, "names": names, "kinds": kinds}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class DataSettings:
    """What is read from the atomic files."""

    item_text_fields: tuple[str, ...] | None = option(
        None,
        "Columns of the .item file that make an item's text, in this order; ~ takes every column but floats.",
        names="text",
    )
    item_text_labels: bool = option(True, "Write 'column: value' (paper) or the bare values, which are fewer tokens.")
    max_train_targets_per_user: int | None = option(
        None, "Latest training targets kept per user, which bounds training time; ~ keeps all.", minimum=1
    )
    tied_events: str = option(
        "file",
        "Order of a user's events at one and the same time: that of the .inter file, as in RecBole, or random, drawn"
        " with data_seed; in a file that is sorted by item the former tells models of ids which event is next.",
        choices=("file", "random"),
    )


@dataclass(frozen=True)
class SummarySettings:
    """How a history becomes a preference summary (paper: hierarchical and recurrent summarization)."""

    summary: str = option(
        "hierarchical",
        "Paradigm: each block then a merge, each block updates the summary, or no summary at all.",
        choices=("hierarchical", "recurrent", "none"),
    )
    block_size: int = option(5, "Items per block, counted from the user's first event (paper: 5).", minimum=1)
    max_blocks: int | None = option(
        None,
        "Most recent blocks that are summarized (paper: 5); ~ takes all. Recurrent: histories beyond it share little.",
        minimum=1,
    )
    summarize_remainder: str = option(
        "auto",
        "Summarize the unfinished last block too (paper), at block_size times the calls, or leave it to the recent"
        " items, which must cover it; auto: yes for the extractive writer, which costs little, else no.",
        choices=("auto", "yes", "no"),
    )
    merge_fan_in: int | None = option(
        None, "Hierarchical: most texts per merge, which makes a tree; ~ merges all at once (paper).", minimum=2
    )
    max_depth: int | None = option(
        None, "Hierarchical: most levels, the blocks' included; the topmost merge takes all that is left.", minimum=2
    )
    summarizer: str = option(
        "extractive",
        "Who writes: extractive (no model), a transformers model name or folder, openai:<model>@<base url> (any"
        " OpenAI-compatible server, such as vLLM's), or file:<path> (summaries written elsewhere).",
        names="model",
        kinds=("place",),
    )
    summarizer_max_new_tokens: int = option(160, "Longest text, in tokens, of one call of an LLM writer.", minimum=1)
    summarizer_batch_size: int = option(
        16, "Prompts per generate call of a local LLM; halved when memory runs out.", minimum=1, kinds=("seed", "place")
    )
    summarizer_concurrency: int = option(
        16, "Requests to a server at the same time.", minimum=1, kinds=("free", "place")
    )
    summarizer_timeout: float = option(
        120.0, "Seconds that a server has for one answer.", minimum=0.1, kinds=("free", "place")
    )
    summarizer_retries: int = option(
        5,
        "Further attempts after a time-out, a lost connection, garbage or the status 429 or 5xx.",
        minimum=0,
        kinds=("free", "place"),
    )
    summarizer_context: int | None = option(
        None,
        "Tokens that a server has for prompt and answer together; ~ is 4096. It is part of the store's keys, so it is"
        " not asked of the server, but checked against what that says.",
        minimum=64,
    )
    summarizer_request: dict[str, Any] = option(  # noqa: RUF009 - it becomes a default_factory
        {},
        "Further fields of every request to a server, part of the store's keys, such as {chat_template_kwargs:"
        " {enable_thinking: false}}, which keeps Qwen 3 on vLLM or SGLang from thinking.",
    )
    summarizer_api_key_variable: str = option(
        "SUMMARIZER_API_KEY",
        "Environment variable that holds the key for a server, which is sent there and kept nowhere.",
        names="text",
        kinds=("free", "place"),
    )
    faulty_summaries: str = option(
        "keep",
        "LLM texts that are empty, mere thoughts, cut off, repetitive, an echo, in another script or a refusal: keep,"
        " retry (ask once more), or fallback (to the extractive text, as what stays empty or thoughts always does);"
        " always counted, and more than half of the texts replaced is an error.",
        choices=("keep", "retry", "fallback"),
    )
    summary_store: str | None = option(
        "saved/summaries.sqlite",
        "File that keeps every text ever written, for all runs; ~ keeps them for the runs of one command.",
        names="written",
        kinds=("free", "place"),
    )
    summarize_only: bool = option(False, "Write the summaries, save them as summaries.jsonl, and stop.")
    dry_run: bool = option(False, "Tell how many calls, tokens and hours the summaries would take, and stop.")

    @property
    def with_remainder(self) -> bool:
        """Whether the unfinished last block is summarized too."""
        if self.summarize_remainder == "auto":
            return self.summarizer == "extractive"
        return self.summarize_remainder == "yes"


@dataclass(frozen=True)
class PromptSettings:
    """How summary, recent items and candidate become token ids."""

    domain: str = option("generic", "Wording of all prompts.", choices=("generic", "news", "products", "movies"))
    prompt_templates: dict[str, str] = option(  # noqa: RUF009 - it becomes a default_factory
        {}, "Own wording by template name, over the domain's.", names="text"
    )
    n_recent_items: int = option(10, "Last items of the history shown one by one (paper's code: 5).", minimum=0)
    max_prompt_tokens: int = option(
        1024, "Longest prompt in tokens; recent items and summary are trimmed to it, nothing else.", minimum=16
    )
    max_item_tokens: int = option(128, "Longest item text in tokens; longer ones are cut and counted.", minimum=1)
    max_summary_tokens: int = option(256, "Longest preference summary in tokens; longer ones are cut.", minimum=1)
    answers: tuple[str, ...] = option(
        ("yes", "no"), "The two answers; each must be one token after the answer slot.", names="text"
    )
    chat_template: str = option(
        "auto", "Use the tokenizer's chat template when it has one, or never.", choices=("auto", "never")
    )


@dataclass(frozen=True)
class BackboneSettings:
    """The causal LM that reads the prompt, and which of its weights are tuned."""

    backbone: str = option(
        "builtin",
        "'builtin' (a small LM trained on the spot, no download) or a transformers model name or folder.",
        names="model",
        kinds=("place",),
    )
    builtin_hidden_size: int = option(128, "Width of the builtin LM.", minimum=8)
    builtin_n_layers: int = option(3, "Layers of the builtin LM.", minimum=1)
    builtin_n_heads: int = option(4, "Attention heads of the builtin LM.", minimum=1)
    builtin_vocab_size: int = option(3000, "Byte-level BPE tokens learned from the item texts.", minimum=300)
    builtin_tokenizer: str | None = option(
        None,
        "tokenizer.json of an earlier run (beside its checkpoint) for the builtin LM; ~ learns one from the item texts"
        " and the summaries of training.",
        names="read",
    )
    tune: str = option(
        "auto", "Weights to train; auto: all of builtin, LoRA on any other backbone.", choices=("auto", "lora", "all")
    )
    lora_rank: int = option(8, "LoRA rank (paper: 8).", minimum=1)
    lora_alpha: int = option(16, "LoRA scale (paper: 16).", minimum=1)
    lora_dropout: float = option(0.05, "Dropout in front of the LoRA matrices (paper: 0.05).", minimum=0)
    lora_target_modules: tuple[str, ...] | None = option(
        None,
        "Linear modules that get LoRA; ~ takes the attention projections, or all linear ones if unknown.",
        names="text",
    )
    attention: str = option(
        "auto",
        "How candidates share the prefix of their history: fused kernels (flash on a CPU, flex elsewhere), split (plain"
        " tensor operations), cached_prefix (not in training), plain (not at all); auto: the first that the check at"
        " load finds exact.",
        choices=("auto", "flash", "flex", "split", "cached_prefix", "plain"),
        kinds=("seed", "place"),
    )
    max_tokens_per_batch: int | None = option(
        None,
        "Tokens per forward pass, in training and evaluation; only a single history in training, or a candidate with"
        " its prefix, may have more; ~ is 4,096 on a CPU and 32,768 elsewhere; halved when memory runs out.",
        minimum=1,
        kinds=("seed", "place"),
    )
    precision: str = option(
        "auto",
        "Number format of frozen weights and autocast; auto: bf16 on a GPU that has it, else fp32.",
        choices=("auto", "fp32", "bf16"),
    )
    load_in: str | None = option(
        None,
        "8bit or 4bit keeps the frozen weights of a pretrained backbone in so many bits (bitsandbytes), with LoRA on"
        " top; activations, embeddings and output head stay in `precision`.",
        choices=("8bit", "4bit"),
    )
    gradient_checkpointing: bool = option(False, "Recompute activations in the backward pass to save memory.")
    trust_remote_code: bool = option(
        False, "Let transformers run code that comes with a model.", kinds=("seed", "place")
    )


@dataclass(frozen=True)
class TrainingSettings:
    """What the trainer adds to RecBole's own options."""

    train_on: str = option(
        "targets",
        "Learn from every target of training, beside sampled negatives, or from the impressions of training alone, with"
        " what was shown and not clicked as negatives.",
        choices=("targets", "impressions"),
    )
    targets_per_prompt: int = option(
        1,
        "Targets that a training prompt is asked about: one (paper, RecBole), or so many in a row after the history of"
        " the first, which they share; of an impression, so many of its clicks.",
        minimum=1,
    )
    loss_on: str = option(
        "answer",
        "Loss on the answer alone, or on every token of prompt and answer (paper).",
        choices=("answer", "full"),
    )
    objective: str = option(
        "listwise",
        "Softmax over a history's candidates, or each candidate on its own (paper); regression: P(yes), stretched over"
        " the range of training's ratings, is the rating (LABEL_FIELD; eval_args: {mode: labeled}).",
        choices=("listwise", "pointwise", "regression"),
    )
    gradient_accumulation_steps: int = option(1, "Batches per optimizer step (paper: 8).", minimum=1)
    gradient_shards: int | None = option(
        None,
        "LLMTRSR, TALLRec: shares of a batch whose gradients are summed; ~ is the number of processes. One process that"
        " is given 2 ends with the same weights as two.",
        minimum=1,
        kinds=("seed",),
    )
    lr_scheduler: str = option(
        "cosine", "Learning rate over all epochs, after the warm-up.", choices=("cosine", "linear", "constant")
    )
    warmup_ratio: float = option(0.05, "Share of all steps in which the learning rate rises from zero.", minimum=0)
    adam_betas: tuple[float, ...] = option((0.9, 0.95), "Betas of Adam and AdamW (paper: 0.9 and 0.95).")


@dataclass(frozen=True)
class TextVectorSettings:
    """Item texts as vectors, for models that do not read them as prompts."""

    text_encoder: str = option(
        "tfidf",
        "Who makes vectors of item texts for LLMSeqSim, LiteLLM4Rec and `retriever: text`: tfidf (reduced word counts,"
        " no download) or a transformers name or folder (mean of its last hidden states).",
        names="model",
        kinds=("place",),
    )
    text_init: str | None = option(
        None,
        "Let the item embeddings of a model of ids (SASRec, GRU4Rec, BERT4Rec ...) begin with text vectors: an encoder"
        " as in text_encoder; ~ leaves them random.",
        names="model",
    )
    text_init_frozen: bool = option(
        False, "Do not train the item embeddings of text_init, those of items without text neither."
    )
    vector_dir: str = option(
        "saved/vectors", "Folder that keeps vectors made by a model.", names="written", kinds=("free", "place")
    )


@dataclass(frozen=True)
class ItemModelSettings:
    """Models that read an item as one vector (HLLM, LiteLLM4Rec)."""

    vector_dropout: float = option(
        0.2, "Share of the elements of items' vectors that HLLM and LiteLLM4Rec miss in training.", minimum=0
    )
    tune_items: bool = option(True, "Tune HLLM's item model too; False keeps the vectors of a pretrained backbone.")
    n_shared_negatives: int = option(
        256, "Items drawn for a batch that all its targets are told from in HLLM, beside each other.", minimum=1
    )


@dataclass(frozen=True)
class RetrievalSettings:
    """Full ranking by a retriever, whose best items the language model ranks anew."""

    retriever: str | None = option(
        None,
        "Who orders the whole catalogue in full ranking (eval_args: {mode: full}): Pop, text (as LLMSeqSim), the"
        " checkpoint (.pth) of a model of RecBole's that was trained here, or the name of one that is compared before;"
        " ~ lets the language model score every item.",
        names="read",
        kinds=("place",),
    )
    rerank_top_k: int = option(50, "The retriever's best items, which the language model ranks anew.", minimum=1)
    hard_negative_ratio: float = option(
        0.0,
        "Share of training's negatives that are the retriever's best items instead of items by chance, where training"
        " is on targets.",
        minimum=0,
    )
    blend: float | None = option(
        1.0,
        "Share of the language model in the order of these items, the rest being the retriever's, both standardized;"
        " 0 is the retriever's order; ~ tunes it on the validation set.",
        minimum=0,
    )


@dataclass(frozen=True)
class ResumeSettings:
    """How a run that was stopped goes on; read for every model, RecBole's own too."""

    resume: str | None = option(
        None,
        "Go on with a run that was stopped: its result folder, or auto (the one in result_dir, else the latest of"
        " results/runs, that the same options began; a new run if there is none).",
        names="written",
        kinds=("free",),
    )
    checkpoint_minutes: float | None = option(
        10.0,
        "Minutes of training between two saved states, from which a run is resumed; 0: as often as can be, ~: never.",
        minimum=0,
        kinds=("free",),
    )
    keep_states: int = option(
        2,
        "Latest states of training that are kept while a run trains; removed when it has finished.",
        minimum=1,
        kinds=("free",),
    )


@dataclass(frozen=True)
class EvaluationSettings:
    """Candidates, limits and where results go; read for every model, RecBole's own too."""

    data_seed: int | None = option(
        None,
        "Seed of the split by users and of the candidates; ~ takes `seed`, or the first of `seeds`, so that all seeds"
        " meet on one set.",
        minimum=0,
        kinds=("seed",),
    )
    catalogue: str = option(
        "interactions",
        "Items that exist: those of the .inter file, or all of the .item file too (candidates that nobody ever chose).",
        choices=("interactions", "items"),
    )
    candidate_category: str = option(
        "category",
        "Column of the .item file that tells an item's category, for the candidate mode cat<n>.",
        names="text",
    )
    candidate_exclusion: str = option(
        "history",
        "Sampled candidates avoid the target and the history, or the target alone (paper, RecBole).",
        choices=("history", "target"),
    )
    also_test: tuple[str, ...] = option(
        (),
        "Further candidate modes (pop20, match20, cat20, impressions, file:<path>) in which the trained model is tested"
        " too, each with a comparison of its own in the folder also/.",
        names="read",
        kinds=("seed",),
    )
    candidate_dir: str = option(
        "saved/candidates", "Folder that keeps the candidate sets.", names="written", kinds=("free",)
    )
    seeds: tuple[int, ...] | None = option(
        None,
        "Train and test once with each seed (1,2,3): means, spreads and intervals over all; ~ is `seed` alone.",
        kinds=("seed",),
    )
    n_resamples: int = option(
        2_000,
        "Bootstrap resamples of users behind every interval, and the least random sign flips behind every p value"
        " (1,000 for each pair of models where that is more).",
        minimum=100,
        kinds=("free",),
    )
    ablations: bool = option(
        False,
        "Test the trained LLM again with parts of its prompts taken away or changed, and tell what each is worth.",
        kinds=("seed",),
    )
    report: bool = option(
        False,
        "Write report.html, a page with plots, beside the tables (comparison.md, .csv, .tex) that several runs get"
        " anyway.",
        kinds=("free",),
    )
    exclude_seen: str = option(
        "auto",
        "Whether full ranking leaves out the items of the user's history: auto is RecBole's rule, no for sequential"
        " models and yes for all others, which cannot be compared then.",
        choices=("auto", "yes", "no"),
    )
    max_full_sort_scores: int = option(
        5_000_000,
        "Most scores (histories x items) that full ranking may cost in one evaluation.",
        minimum=1,
        kinds=("free",),
    )
    result_dir: str | None = option(
        None,
        "Folder of this run's results; ~ makes results/runs/<time>-<model>-<dataset>.",
        names="written",
        kinds=("free",),
    )
    checkpoint: str | None = option(
        None, "Checkpoint to continue from; when all its epochs are done, it is only evaluated.", names="read"
    )
    explain: str | None = option(
        None,
        "User id whose ranking is shown as explain-<id>.html in the result folder: blocks, calls, prompt, scores.",
        is_id=True,
        names="text",
        kinds=("free",),
    )
    verbose: bool = option(
        False,
        "Show on the screen what otherwise only the log file has: every option, the data set's statistics, the"
        " structure of the model, and each step of a run.",
        kinds=("free",),
    )
    trust_checkpoint: bool = option(
        False,
        "Un-pickle checkpoints that this run did not write; they can run any code, so only your own.",
        kinds=("free", "place"),
    )
