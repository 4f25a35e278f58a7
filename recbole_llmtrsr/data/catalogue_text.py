"""The texts of a catalogue for any model's data set, also one that reads no texts itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_llmtrsr.data.item_text import read_item_text


def catalogue_texts(config: Any, dataset: Any) -> list[str]:
    """Bare values of the text columns, by RecBole's item id; empty for the padding and items without text.

    Args:
        config: our Config.
        dataset: of any kind.

    Raises:
        UserError: no .item file, or a text column it does not have.
    """
    text = read_item_text(
        Path(config["data_path"]) / f"{config['dataset']}.item",
        config["ITEM_ID_FIELD"],
        config.settings.data.item_text_fields,
        labels=False,
        separator=config["field_separator"],
        encoding=config["encoding"] or "utf-8",
    )
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
    without = {tokens[0], *text.without_text(tokens[1:])}
    return ["" if token in without else text[token].line for token in tokens]
