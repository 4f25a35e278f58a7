"""LLMTRSRDataset: RecBole's sequential dataset with whole histories, item texts and preference summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole.data.dataset import Dataset, SequentialDataset

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.data.catalogue_text import read_catalogue
from recbole_llmtrsr.data.histories import HISTORY_ID, Histories, SequentialRows, latest_rows
from recbole_llmtrsr.data.item_text import Item, ItemText, check_coverage
from recbole_llmtrsr.errors import UserError


class LLMTRSRDataset(SequentialRows, SequentialDataset):  # type: ignore[misc]
    """RecBole's sequential dataset, whose rows have a ``history_id`` that identifies history and summary.

    Attributes:
        histories: item ids before each target, not limited to ``MAX_ITEM_LIST_LENGTH``.
        item_text: texts by item token.
        label_span: lowest and highest training label, if there are labels; set by ``build``.

    Raises:
        UserError: the .item file is missing or lacks a text column, or filters leave no events.
    """

    histories: Histories
    label_span: tuple[float, float]

    def __init__(self, config: Config) -> None:
        self.item_text: ItemText = read_catalogue(config, labels=config.settings.data.item_text_labels)
        self._summaries: dict[int, str] = {}
        super().__init__(config)
        tokens = [str(token) for token in self.field2id_token[self.iid_field][1:]]
        self.items_without_text: list[str] = self.item_text.without_text(tokens)
        self._items: list[Item] = [self.item_text[str(token)] for token in self.field2id_token[self.iid_field]]
        check_coverage(self.item_text, tokens, self.items_without_text, "a text", "item_text_fields")
        if self.items_without_text:
            self.logger.warning(
                f"{len(self.items_without_text)} of {len(tokens)} items have no text in the .item file and get a"
                f" placeholder, for example {', '.join(self.items_without_text[:5])}"
            )
        for lines, fault in (
            (
                self.item_text.ragged_lines,
                "have more columns than its header; the surplus was joined to the last column",
            ),
            (self.item_text.repeated_lines, "repeat the id of an earlier line and are ignored"),
        ):
            if lines:
                self.logger.warning(f"{len(lines)} lines of the .item file {fault}: lines {list(lines[:10])}")

    def build(self) -> list[Any]:
        """RecBole's splits; the training split keeps the latest ``max_train_targets_per_user`` rows of each user.

        With ``train_on: impressions``, the loader of impressions applies the limit.
        """
        datasets = super().build()
        label = self.config["LABEL_FIELD"]
        if label in datasets[0].inter_feat and len(datasets[0]):
            values = datasets[0].inter_feat[label]
            for part in datasets:
                part.label_span = float(values.min()), float(values.max())
        limit = self.config.settings.data.max_train_targets_per_user
        if limit is not None and self.config.settings.training.train_on == "targets":
            train = datasets[0]
            users = train.inter_feat[self.uid_field].numpy()
            datasets[0] = train.copy(train.inter_feat[latest_rows(users, train.inter_feat[HISTORY_ID].numpy(), limit)])
        return datasets

    def item(self, item_id: int) -> Item:
        """The item of RecBole's internal id; 0, the padding, is the placeholder."""
        return self._items[item_id]

    @property
    def items(self) -> Sequence[Item]:
        """All items, by RecBole's internal id."""
        return self._items

    @property
    def item_tokens(self) -> list[str]:
        """Item tokens of the user's files, by RecBole's internal id; 0 is RecBole's padding."""
        return [str(token) for token in self.field2id_token[self.iid_field]]

    def set_summaries(self, summaries: Mapping[int, str]) -> None:
        """Set the preference summaries, by history id."""
        # The splits are shallow copies of this data set and share the dictionary.
        self._summaries.clear()
        self._summaries.update(summaries)

    def summary(self, history_id: int) -> str:
        """The preference summary of a history, empty with ``summary: none``; raises a KeyError if it is missing."""
        if self.config.settings.summary.summary == "none":
            return ""
        if history_id not in self._summaries:
            raise KeyError(f"history {history_id} has no summary: call make_summaries before building prompts")
        return self._summaries[history_id]

    def summary_sample(self, n: int = 20_000) -> list[str]:
        """At most n summaries of this split's rows, evenly spread, on which a tokenizer is trained."""
        ids = self.inter_feat[HISTORY_ID].tolist() if self._summaries else []
        return [self._summaries[i] for i in ids[:: max(1, -(-len(ids) // n))]]


def load_dataset(dataset_class: type[Dataset], config: Config) -> Dataset:
    """Read and filter a data set.

    Raises:
        UserError: RecBole cannot read the atomic files, or filters leave no events.
    """
    try:
        dataset = dataset_class(config)
    except UserError:
        raise
    except ValueError as error:
        if "feat is empty" in str(error):
            raise _empty(config) from error
        raise UserError(
            f"dataset '{config['dataset']}' cannot be loaded from {config['data_path']}: {error}; the files must be"
            " RecBole's atomic files, with a header of name:type and one value per column"
        ) from error
    if len(dataset.inter_feat) == 0:
        raise _empty(config)
    return dataset


def _empty(config: Config) -> UserError:
    names = ("user_inter_num_interval", "item_inter_num_interval", "val_interval")
    filters = {name: config[name] for name in names if config[name] not in (None, "[0,inf)")}
    return UserError(
        f"dataset '{config['dataset']}' is empty after filtering"
        + (f" by {filters}: loosen these filters" if filters else ": the .inter file has no usable line")
    )
