"""``recbole-llmtrsr summaries``, or ``python -m recbole_llmtrsr.summarizer``: inspects a summary store."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from recbole_llmtrsr.errors import UserError, command_line
from recbole_llmtrsr.runtime.atomic_write import atomic_write
from recbole_llmtrsr.runtime.command_line import command_parser, program
from recbole_llmtrsr.summarizer.store import view
from recbole_llmtrsr.summarizer.store.exchange import export_store, import_store
from recbole_llmtrsr.summarizer.store.store import SummaryStore

_LATEST = 5


def _run(options: argparse.Namespace) -> int:
    if options.command != "import" and not options.store.is_file():
        raise UserError(f"there is no summary store at --store={options.store}: give the file that a run wrote")
    n_faults = 0
    with SummaryStore(options.store) as store:
        if options.command == "show":
            lines = view.show_chain(store, options.key) if options.key else view.show_latest(store, options.latest)
            print("\n".join(lines))
        elif options.command == "count":
            print("\n".join(view.count(store)))
        elif options.command == "verify":
            n_keys, wrong = view.verify(store)
            n_faults = len(wrong)
            print("\n".join([*wrong, f"{options.store}: {n_keys:,} summaries, {n_faults:,} faults"]))
        elif options.command == "export":
            _export(store, options.out)
        else:
            counts = import_store(store, options.source, options.replace)
            done = "replaced" if options.replace else "unchanged in the store; --replace takes the text of the file"
            print(
                f"{options.store}: {counts.new:,} new, {counts.equal:,} already there, {counts.conflicting:,} with"
                f" another text ({done})"
            )
    return 1 if n_faults else 0


def _export(store: SummaryStore, out: Path) -> None:
    if str(out) == "-":
        written = export_store(store, sys.stdout.buffer)
    else:
        try:
            with atomic_write(out) as file:
                written = export_store(store, file)
        except OSError as fault:
            raise UserError(f"cannot write --out={out} ({fault}): choose a writable file with enough space") from fault
    print(f"{out}: {written[0]:,} summaries, {written[1]:,} damaged ones omitted", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        program("summaries", "recbole_llmtrsr.summarizer"),
        "Show or check a summary store, or copy its summaries to and from a file.",
        [
            "show --store=saved/summaries.sqlite",
            "export --store=saved/summaries.sqlite --out=summaries.jsonl",
        ],
    )
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "show": "show one summary with its inputs, or the latest summaries",
        "count": "count calls, tokens, seconds and reasons to finish by writer and kind",
        "verify": "check the file and every summary; the exit code is 1 if anything is damaged",
        "export": "write every undamaged summary as one JSON line",
        "import": "read such lines into a store, which is created if missing",
    }
    made = {name: commands.add_parser(name, help=text, allow_abbrev=False) for name, text in helps.items()}
    for command in made.values():
        command.add_argument(
            "--store", type=Path, required=True, help="file of the store, such as saved/summaries.sqlite"
        )
    made["show"].add_argument(
        "key", nargs="?", help="first digits of a summary's key; without it, the latest are shown"
    )
    made["show"].add_argument("--latest", type=_whole, default=_LATEST, help=f"number of latest summaries ({_LATEST})")
    made["export"].add_argument(
        "--out", type=Path, required=True, help="file for the lines, which is replaced; - for stdout"
    )
    made["import"].add_argument("--source", type=Path, required=True, help="file of lines, as export writes it")
    made["import"].add_argument(
        "--replace", action="store_true", help="replace texts of the store that differ from the file's"
    )
    return parser


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1, got {text}")
    return number


main = command_line(_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
