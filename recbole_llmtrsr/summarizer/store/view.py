"""A summary store as readable text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.summarizer.keys import canonical
from recbole_llmtrsr.summarizer.store.store import SummaryStore

_KEYS_SHOWN = 5

Writers = Mapping[int, tuple[str, Mapping[str, object]]]


def show_latest(store: SummaryStore, n: int) -> Iterator[str]:
    """Show the n latest summaries, newest first."""
    writers = store.writers()
    for key in store.latest(n):
        yield from _summary(store, key, writers)


def show_chain(store: SummaryStore, prefix: str) -> Iterator[str]:
    """Show the inputs of a summary, the summary and the settings of its writer.

    Args:
        store: the store that holds the summary.
        prefix: first digits of the summary's key, enough to identify it.

    Raises:
        UserError: if no key or several keys begin with the prefix.
    """
    key = _only_key(store, prefix)
    writers = store.writers()
    for member in _chain(store, key):
        yield from _summary(store, member, writers)
    for record in store.records([key]):
        if record.writer in writers:
            yield f"settings of its writer: {canonical(writers[record.writer][1])}"


def count(store: SummaryStore) -> Iterator[str]:
    """Tabulate calls, tokens, seconds and reasons to finish by writer and kind."""
    writers = store.writers()
    rows = [(_name(number, writers), kind, total) for (number, kind), total in store.speeds().items()]
    width = max([len("writer"), *(len(name) for name, _, _ in rows)])
    yield (
        f"{'writer':<{width}} {'kind':<6} {'calls':>10} {'prompt tokens':>14} {'new tokens':>12} {'seconds':>10}"
        f" {'stop':>10} {'length':>8}"
    )
    for name, kind, total in rows:
        yield (
            f"{name:<{width}} {kind:<6} {total.calls:>10,} {total.prompt_tokens:>14,} {total.new_tokens:>12,}"
            f" {total.seconds:>10,.1f} {total.calls - total.cut_off:>10,} {total.cut_off:>8,}"
        )


def verify(store: SummaryStore) -> tuple[int, list[str]]:
    """Return the number of readable keys, and the faults of the file, its writers and its summaries."""
    wrong = store.check_file()
    keys = store.keys()
    sound = {record.key for record in store.records(keys)}
    return len(keys), [*wrong, *(f"summary {key.hex()}: damaged" for key in keys if key not in sound)]


def _only_key(store: SummaryStore, prefix: str) -> bytes:
    digits = prefix.lower()
    if not 1 <= len(digits) <= 32 or not set(digits) <= set("0123456789abcdef"):
        raise UserError(f"a summary's key must be given by its first 1 to 32 hexadecimal digits, got {prefix!r}")
    keys = store.keys(bytes.fromhex(digits.ljust(32, "0")), bytes.fromhex(digits.ljust(32, "f")))
    if not keys:
        raise UserError(f"no key of {store.path} begins with {prefix!r}: run 'show' without a key to list the latest")
    if len(keys) > 1:
        shown = ", ".join(key.hex() for key in keys[:_KEYS_SHOWN]) + (", ..." if len(keys) > _KEYS_SHOWN else "")
        raise UserError(f"{len(keys)} keys of {store.path} begin with {prefix!r}: give more digits of one of {shown}")
    return keys[0]


def _chain(store: SummaryStore, key: bytes) -> Sequence[bytes]:
    """Return a call's inputs, direct and indirect, and then the call; each appears once."""
    # Recursion could exceed Python's limit, since a chain of updates is as long as a history.
    order, seen, waiting = [], set(), [(key, False)]
    while waiting:
        now, is_expanded = waiting.pop()
        if is_expanded:
            order.append(now)
        elif now not in seen:
            seen.add(now)
            waiting.append((now, True))
            for record in store.records([now]):
                calls = [source.removeprefix("call:") for source in record.inputs if source.startswith("call:")]
                waiting += [(bytes.fromhex(call), False) for call in reversed(calls)]
    return order


def _summary(store: SummaryStore, key: bytes, writers: Writers) -> Iterator[str]:
    record = next(store.records([key]), None)
    if record is None:
        yield f"{key.hex()}  is not in this store, or is damaged\n"
        return
    answer = record.answer
    attempt = f", attempt {record.attempt}" if record.attempt else ""
    yield f"{key.hex()}  {record.kind}{attempt}, by {_name(record.writer, writers)}, {record.created}, {record.version}"
    yield (
        f"  {answer.prompt_tokens:,} tokens read, {answer.new_tokens:,} written in {answer.seconds:.2f} s,"
        f" finish: {answer.finish}"
    )
    yield f"  from: {', '.join(record.inputs) or 'nothing'}"
    yield f"  {answer.text or '(empty)'}\n"


def _name(number: int, writers: Writers) -> str:
    return f"{number}: {writers[number][0] if number in writers else '(damaged)'}"
