"""A toy data set, and options with which a run on it takes about a second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SMALL: dict[str, Any] = {
    "builtin_hidden_size": 16,
    "builtin_n_layers": 1,
    "builtin_n_heads": 2,
    "builtin_vocab_size": 400,
    "max_prompt_tokens": 400,
}
TINY: dict[str, Any] = {
    **SMALL,
    "data_path": "data",
    "use_gpu": False,
    "show_progress": False,
    "state": "WARNING",
    "epochs": 1,
    "eval_args": {"mode": "uni3"},
    "candidate_exclusion": "target",
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 2},
}
N_ITEMS = 13
TITLES = [f"i{n}\tThe title of {n}" for n in range(N_ITEMS)]


def write_atomic(
    folder: Path, events: Iterable[str], items: Iterable[str] = TITLES, of_events: str = "", of_items: str = ""
) -> None:
    """Write a data set with the name of its folder.

    Args:
        folder: made if missing.
        events: lines of user, item, time and further columns, separated by tabs.
        items: lines of item, title and further columns.
        of_events: headers of the further columns, each behind a tab.
        of_items: likewise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    inter = [f"user_id:token\titem_id:token\ttimestamp:float{of_events}", *events, ""]
    item = [f"item_id:token\ttitle:token_seq{of_items}", *items, ""]
    (folder / f"{folder.name}.inter").write_text("\n".join(inter), encoding="utf-8")
    (folder / f"{folder.name}.item").write_text("\n".join(item), encoding="utf-8")


def read_atomic(folder: Path) -> tuple[str, str]:
    """What the files of events and items of a data set hold."""
    events, items = ((folder / f"{folder.name}.{suffix}").read_bytes().decode() for suffix in ("inter", "item"))
    return events, items


def toy_events(*lengths: int) -> list[str]:
    """Events of users u0, u1 ..., as many each as told, of 13 items."""
    return [f"u{u}\ti{(3 * u + 7 * t) % N_ITEMS}\t{t}" for u, n in enumerate(lengths) for t in range(n)]


def events_of(sequences: Mapping[str, Iterable[object]]) -> list[str]:
    """Events of users whose items are given in their order."""
    return [f"{user}\t{item}\t{time}" for user, items in sequences.items() for time, item in enumerate(items)]


def write_pre_split(folder: Path, parts: Mapping[str, str]) -> dict[str, Any]:
    """Write files that are split beforehand, beside those of a data set.

    Args:
        folder: named as the data set.
        parts: by name, such as 'train': lines such as "six i4 i1,i2,i3", of user, target and the items before it.

    Returns:
        options that read them.
    """
    for name, lines in parts.items():
        text = lines.replace(" ", "\t").replace(",", " ")
        path = folder / f"{folder.name}.{name}.inter"
        path.write_text(f"user_id:token\titem_id:token\titem_id_list:token_seq\n{text}\n")
    return {
        "benchmark_filename": list(parts),
        "load_col": {"inter": ["user_id", "item_id", "item_id_list"]},
        "alias_of_item_id": ["item_id_list"],
    }
