"""Item texts from the columns that the options name, for all models, including those that use ids only."""

from __future__ import annotations

from pathlib import Path

from recbole.data.dataset import Dataset

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.item_text import ItemText, check_coverage, read_item_text


def item_file(config: Config) -> Path:
    """The .item file of the data set."""
    return Path(config["data_path"]) / f"{config['dataset']}.item"


def read_catalogue(config: Config, labels: bool = False) -> ItemText:
    """Item texts by token, from the columns ``item_text_fields``; with labels, each value follows its column's name.

    Raises:
        UserError: the .item file is missing, or lacks one of the columns.
    """
    return read_item_text(
        item_file(config),
        config["ITEM_ID_FIELD"],
        config.settings.data.item_text_fields,
        labels=labels,
        separator=config["field_separator"],
        encoding=config["encoding"] or "utf-8",
    )


def catalogue_texts(config: Config, dataset: Dataset) -> list[str]:
    """Item texts without column names, by RecBole's item id; empty for the padding and for items without text.

    Raises:
        UserError: the .item file is missing, lacks one of the columns, or has texts for hardly any item.
    """
    text = read_catalogue(config)
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
    missing = text.without_text(tokens[1:])
    check_coverage(text, tokens[1:], missing, "a text", "item_text_fields")
    without = {tokens[0], *missing}
    return ["" if token in without else text[token].line for token in tokens]
