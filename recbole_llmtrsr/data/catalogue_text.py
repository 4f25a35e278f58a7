"""Item texts of the columns that the options name, for any model, even one of ids."""

from __future__ import annotations

from pathlib import Path

from recbole.data.dataset import Dataset

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.item_text import ItemText, check_coverage, read_item_text


def item_file(config: Config) -> Path:
    """The .item file of the data set."""
    return Path(config["data_path"]) / f"{config['dataset']}.item"


def read_catalogue(config: Config, labels: bool = False) -> ItemText:
    """Texts by item token, of the columns ``item_text_fields``; with labels, each value follows its column's name.

    Raises:
        UserError: no .item file, or a text column it does not have.
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
    """Bare values of the text columns, by RecBole's item id; empty for the padding and items without text.

    Raises:
        UserError: no .item file, a text column it does not have, or texts of nearly no item.
    """
    text = read_catalogue(config)
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
    missing = text.without_text(tokens[1:])
    check_coverage(text, tokens[1:], missing, "a text", "item_text_fields")
    without = {tokens[0], *missing}
    return ["" if token in without else text[token].line for token in tokens]
