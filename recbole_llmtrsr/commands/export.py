"""``recbole-llmtrsr export``: recommendations of a finished run for many users as a table, or its language model."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from recbole_llmtrsr.commands.arguments import check_writable, count
from recbole_llmtrsr.errors import UserError, command_line
from recbole_llmtrsr.runtime.command_line import command_parser, named_value, program

if TYPE_CHECKING:
    from recbole_llmtrsr.recommend import Query, Ranking, Recommender

_PROMPTS = 256  # scored together
_FAULTS_SHOWN = 10
_OF_TABLE = {"k": 10, "users": None, "history": "test", "most_prompts": 1000}  # options of --out with their defaults
_ROW_GROUP = 50_000  # rows of a Parquet file that are written together


class Row(NamedTuple):
    """A line of the table: an item recommended to a user; ``rank`` counts from 1."""

    user: str
    rank: int
    item: str
    score: float
    text: str


Write = Callable[[Sequence[Row]], object]


def _run(options: argparse.Namespace) -> int:
    if options.out is not None:
        return _export_table(options)
    if given := [name for name in _OF_TABLE if getattr(options, name) is not None]:
        raise UserError(f"--{', --'.join(given)} can be given with --out alone: leave it out for a model")
    from recbole_llmtrsr.commands.export_model import export_model

    said = export_model(
        Path(options.run),
        options.adapter or options.merged,
        is_adapter=options.adapter is not None,
        options=dict(named_value(one) for one in options.option),
        checkpoint=None if options.checkpoint is None else Path(options.checkpoint),
    )
    print(said)
    return 0


def _export_table(options: argparse.Namespace) -> int:
    for name, value in _OF_TABLE.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    table = _table_of(options.out)
    check_writable(options.out)
    given = None if options.users is None else _read_users(options.users)
    # Imported late: --help and a mistyped flag should not wait for torch and transformers.
    from recbole_llmtrsr.recommend import Recommender
    from recbole_llmtrsr.runtime.atomic_write import atomic_write
    from recbole_llmtrsr.runtime.screen import Bar

    recommender = Recommender.load(
        options.run,
        options=dict(named_value(one) for one in options.option),
        checkpoint=options.checkpoint,
        most_prompts=options.most_prompts,
    )
    users = recommender.tested_users if given is None else given
    queries = _queries(recommender, users, options)
    notes = Counter[str]()
    with (
        atomic_write(options.out) as file,
        table(file) as write,
        Bar(total=len(users), unit="user") as bar,
    ):
        for user, ranking in zip(users, _rankings(recommender, queries), strict=True):
            write([Row(user, rank, str(one.item), one.score, one.text) for rank, one in enumerate(ranking.items, 1)])
            notes.update(_notes(ranking, options.k))
            bar.update()
    print(f"{options.out}: recommendations for {len(users):,} users")
    for note, n_users in notes.items():
        print(f"{n_users:,} of {len(users):,} users {note}", file=sys.stderr)
    return 0


def _rankings(recommender: Recommender, queries: Sequence[Query]) -> Iterator[Ranking]:
    """The ranking of every query, some of them scored together."""
    step = max(1, _PROMPTS // max(query.n_searched for query in queries))
    for first in range(0, len(queries), step):
        yield from recommender.answer(queries[first : first + step])


def _notes(ranking: Ranking, k: int) -> Iterator[str]:
    """What a reader of the table should know about a user's rows."""
    if len(ranking.items) < k:
        yield f"have fewer than {k} items, as the catalogue has no more beyond their histories"
    if ranking.is_replaced:
        yield "have an extract in place of a summary, because the summarizer did not answer"
    elif ranking.summary == "":
        yield "have no summary in their prompts"


def _queries(recommender: Recommender, users: Sequence[str], options: argparse.Namespace) -> list[Query]:
    """A checked query for every user, before anything is scored."""
    queries, faults = [], dict[str, None]()
    for user in users:
        try:
            history = recommender.history(user, whole=True) if options.history == "whole" else user
            queries.append(recommender.search_query(history, options.k))
        except UserError as fault:
            faults |= dict.fromkeys(fault.faults)
    if faults:
        more = (
            [f"and {len(faults) - _FAULTS_SHOWN:,} further faults of this kind"] if len(faults) > _FAULTS_SHOWN else []
        )
        raise UserError([*list(faults)[:_FAULTS_SHOWN], *more])
    return queries


def _read_users(file: Path) -> list[str]:
    """Ids of users, one on each line, each once."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--users={file} cannot be read ({error}): give a text file with one user id per line"
        ) from error
    users = [user for line in lines if (user := line.removesuffix("\r"))]
    if not users:
        raise UserError(f"--users={file} names no user: write one user id per line, or leave --users out for all")
    if len(set(users)) < len(users):
        twice = next(user for place, user in enumerate(users) if user in users[:place])
        raise UserError(f"--users={file} names user '{twice}' twice: name every user once")
    return users


@contextmanager
def _csv(file: BinaryIO) -> Iterator[Write]:
    from recbole_llmtrsr.evaluation.comparison.exports import plain

    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    table = csv.writer(text, lineterminator="\n")
    table.writerow(Row._fields)
    # Ids stay as they are, so that they can be joined.
    yield lambda rows: table.writerows(row._replace(text=str(plain(row.text))) for row in rows)
    text.detach()


@contextmanager
def _json_lines(file: BinaryIO) -> Iterator[Write]:
    yield lambda rows: file.writelines(f"{json.dumps(row._asdict(), ensure_ascii=False)}\n".encode() for row in rows)


@contextmanager
def _parquet(file: BinaryIO) -> Iterator[Write]:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"user": pa.string(), "rank": pa.int32(), "item": pa.string(), "score": pa.float64(), "text": pa.string()}
    schema = pa.schema(kinds)
    waiting: list[Row] = []

    def write(rows: Sequence[Row], at_least: int = _ROW_GROUP) -> None:
        waiting.extend(rows)
        if len(waiting) >= at_least:
            writer.write_table(pa.Table.from_pylist([row._asdict() for row in waiting], schema))
            waiting.clear()

    with parquet.ParquetWriter(file, schema) as writer:
        yield write
        write([], at_least=1)


_TABLES: dict[str, Callable[[BinaryIO], AbstractContextManager[Write]]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}


def _table_of(out: Path) -> Callable[[BinaryIO], AbstractContextManager[Write]]:
    if out.suffix not in _TABLES:
        raise UserError(f"--out={out} must end in one of {', '.join(_TABLES)}")
    if out.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UserError("Parquet files need the package pyarrow: pip install '.[parquet]', or write .csv or .jsonl")
    return _TABLES[out.suffix]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        program("export", "recbole_llmtrsr.commands.export"),
        "Write the k best items of the catalogue for many users (--out), or the trained language model (--adapter,"
        " --merged).\n\n"
        f"The table has one row per user and item, with the columns {', '.join(Row._fields)}. Scores are the language"
        " model's; a retriever with blend may order items otherwise.\n\n"
        "The folder of a language model holds its tokenizer and a model card, too; peft and transformers read it."
        " Start in the folder in which the run was started, because paths of the run are relative to it. Files and"
        " folders appear once they are complete.",
        [
            "--run=results/runs/RUN --out=recommendations.csv",
            "--run=results/runs/RUN --out=next.parquet --users=users.txt --history=whole --k=20",
            "--run=results/runs/RUN --merged=ranker",
        ],
    )
    add = parser.add_argument
    add("--run", required=True, metavar="FOLDER", help="result folder of a run of LLMTRSR or TALLRec")
    add_target = parser.add_mutually_exclusive_group(required=True).add_argument
    add_target("--out", type=Path, metavar="FILE", help=f"table to write: {', '.join(_TABLES)}; it is replaced")
    add_target("--adapter", type=Path, metavar="FOLDER", help="folder for the LoRA adapter in peft's format")
    add_target(
        "--merged",
        type=Path,
        metavar="FOLDER",
        help="folder for the whole model in transformers' format, the adapter merged into its weights",
    )
    add("--k", type=count, help="items per user of the table (10)")
    add(
        "--users",
        type=Path,
        metavar="FILE",
        help="text file with one user id per line, for the table; all users of the test if omitted",
    )
    add(
        "--history",
        choices=("test", "whole"),
        help="of the table; test: the history before the test target, as the metrics measure it; whole: all events of a"
        " user, for recommendations of what comes next, whose summaries may have to be written (test)",
    )
    add(
        "--most_prompts",
        type=count,
        help="largest catalogue that is searched without a retriever for the table, with one prompt per user and item"
        " (1000)",
    )
    add("--checkpoint", metavar="FILE", help="the run's .pth file, if it was moved")
    add(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option whose value differs on this machine, such as data_path=dataset; may be repeated",
    )
    return parser


main = command_line(_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
