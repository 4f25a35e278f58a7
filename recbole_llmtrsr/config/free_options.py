"""Options that change no result: where files lie (their contents are compared), patience, what is shown or kept."""

from __future__ import annotations

FREE_OPTIONS = (
    "candidate_dir",
    "checkpoint_dir",
    "checkpoint_minutes",
    "data_path",
    "explain",
    "gpu_id",
    "keep_states",
    "max_full_sort_scores",
    "n_resamples",
    "report",
    "result_dir",
    "resume",
    "show_progress",
    "state",
    "summarizer_api_key_variable",
    "summarizer_concurrency",
    "summarizer_retries",
    "summarizer_timeout",
    "summary_store",
    "trust_checkpoint",
    "vector_dir",
)
