"""Queries of a Recommender: histories and candidates by id, by user, or as texts; all checks of them are here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recbole_llmtrsr.data.item_text import Item, ItemText
from recbole_llmtrsr.errors import UserError, did_you_mean
from recbole_llmtrsr.recommend.known_users import FEW, KnownUsers

GivenItem = str | Mapping[str, str]
"""An id of the .item file, or a text by hand: its columns by name, with an id that is not in the file, if any."""

_N_NAMED = 5


@dataclass(frozen=True)
class QueryItem:
    """An item of a query.

    Attributes:
        token: its id in the user's files, or the one given with its text; None without one.
        item: its text.
        number: RecBole's id; None where the text was given by hand.
    """

    token: str | None
    item: Item
    number: int | None


@dataclass(frozen=True)
class Query:
    """A checked query.

    Attributes:
        history: items, oldest first; never empty.
        candidates: to be ranked, in the order given; none where the catalogue is searched.
        k: number of items of the catalogue to return; None where candidates were given.
        n_searched: items of the catalogue that the language model scores; 0 where candidates were given.
        with_history: items of the history may be recommended again.
        user: whose history it is; None where it was given by hand.
        row: of the user's latest target in the test split; None where it was given by hand.
    """

    history: tuple[QueryItem, ...]
    candidates: tuple[QueryItem, ...] = ()
    k: int | None = None
    n_searched: int = 0
    with_history: bool = False
    user: str | None = None
    row: int | None = None

    @property
    def n_items(self) -> int:
        """Number of items, of history and candidates."""
        return len(self.history) + len(self.candidates)

    @property
    def n_prompts(self) -> int:
        """The largest number of prompts that it takes."""
        return len(self.candidates) or self.n_searched


class QueryParser:
    """Checks the arguments of a caller and makes a query of them. Several threads may use it at once.

    Args:
        item_text: texts of the catalogue.
        tokens: ids of the user's files by RecBole's; 0 is the padding.
        id_column: name of the column that holds them.
        users: whose histories are known.
    """

    def __init__(self, item_text: ItemText, tokens: Sequence[str], id_column: str, users: KnownUsers) -> None:
        self._item_text, self._tokens, self._id_column, self._users = item_text, tokens, id_column, users
        self._numbers = {token: number for number, token in enumerate(tokens) if number}

    def ranking(self, history: str | Sequence[GivenItem], candidates: Sequence[GivenItem]) -> Query:
        """A query that ranks candidates; see `Recommender.rank`.

        Raises:
            UserError: with every fault found.
        """
        faults: list[str] = []
        user, row, past = self._history(history, faults)
        chosen = self._items("candidates", candidates, faults)
        twice = [token for token, n in Counter(one.token for one in chosen).items() if n > 1 and token is not None]
        if twice:
            faults.append(f"candidates name {_named(twice)} more than once: give each id once")
        if faults:
            raise UserError(faults)
        return Query(past, chosen, user=user, row=row)

    def recommendation(self, history: str | Sequence[GivenItem], k: int, with_history: bool) -> Query:
        """A query that searches the catalogue; see `Recommender.recommend`. Raises as ``ranking``."""
        faults: list[str] = []
        user, row, past = self._history(history, faults)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            faults.append(f"k must be a whole number >= 1, got {k!r}")
        if faults:
            raise UserError(faults)
        return Query(past, k=k, with_history=with_history, user=user, row=row)

    def known(self, number: int) -> QueryItem:
        """The item of RecBole's id."""
        return QueryItem(self._tokens[number], self._item_text[self._tokens[number]], number)

    def _history(
        self, given: str | Sequence[GivenItem], faults: list[str]
    ) -> tuple[str | None, int | None, tuple[QueryItem, ...]]:
        if not isinstance(given, str):
            return None, None, self._items("history", given, faults)
        try:
            row, numbers = self._users.in_test(given)
        except UserError as fault:
            faults.extend(fault.faults)
            return given, None, ()
        return given, row, tuple(map(self.known, numbers))

    def _items(self, name: str, given: Sequence[GivenItem], faults: list[str]) -> tuple[QueryItem, ...]:
        if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
            faults.append(f"{name} must be a list of item ids and texts, got a {type(given).__name__}")
            return ()
        if not given:
            faults.append(
                f"{name} is empty: give at least one item"
                + (", since a model ranks by what a user chose before" if name == "history" else "")
            )
        unknown: list[str] = []
        items = []
        for position, one in enumerate(given, start=1):
            if isinstance(one, str):
                if one in self._numbers:
                    items.append(self.known(self._numbers[one]))
                else:
                    unknown.append(one)
            elif isinstance(one, Mapping):
                items.append(self._by_hand(f"{name}, item {position}", one, faults))
            else:
                faults.append(
                    f"{name}, item {position}: must be an item id or a mapping of text columns, got a"
                    f" {type(one).__name__}"
                )
        if unknown:
            compared = self._numbers if len(self._numbers) < FEW else ()
            hint = did_you_mean(unknown[0][:40], compared, form=" ({})")
            faults.append(
                f"{name}: {_named(unknown)} {'is' if len(unknown) == 1 else 'are'} not among the"
                f" {len(self._numbers):,} items of the run's catalogue{hint}: give texts instead, such as"
                f" {{{self._item_text.columns[0]!r}: '...'}}"
            )
        return tuple(items)

    def _by_hand(self, place: str, given: Mapping[str, str], faults: list[str]) -> QueryItem:
        values = dict(given)
        token = values.pop(self._id_column, None)
        before = len(faults)
        columns = self._item_text.columns
        if others := [name for name in values if name not in columns]:
            faults.append(
                f"{place}: {_named(others)} {'is' if len(others) == 1 else 'are'} no text column: the run read"
                f" {', '.join(columns)} (and '{self._id_column}' for an id)"
            )
        wrong = [name for name, value in given.items() if not isinstance(value, str) or not _is_unicode(value)]
        if wrong:
            faults.append(f"{place}: {_named(wrong)} must hold Unicode text: write numbers as text, such as '1995'")
        if isinstance(token, str) and token in self._numbers:
            faults.append(f"{place}: {_named([token])} is in the catalogue: give the id without a text, or another id")
        if token == "":
            faults.append(f"{place}: '{self._id_column}' is empty: leave it out, or give an id")
        if len(faults) > before:
            return QueryItem(None, Item((), ""), None)
        row = [values.get(column, "") for column in columns]
        item = ItemText.from_rows(columns, {"": row}, self._item_text.labels).items[""]
        if not item.fields:
            faults.append(f"{place}: has no text: fill one of {', '.join(columns)}")
        return QueryItem(token, item, None)


def _named(tokens: Sequence[object]) -> str:
    """The first few in quotes, as text that can be written as UTF-8."""
    shown = ", ".join(f"'{str(token)[:60].encode(errors='replace').decode()}'" for token in tokens[:_N_NAMED])
    return shown + (f" and {len(tokens) - _N_NAMED} more" if len(tokens) > _N_NAMED else "")


def _is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogates, which JSON can hold and no tokenizer reads."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
