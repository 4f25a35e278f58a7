"""``recbole-llmtrsr evaluate``, or ``python -m recbole_llmtrsr.evaluation``: evaluates another program's scores."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from recbole_llmtrsr.data.candidates.candidate_file import read_candidate_file
from recbole_llmtrsr.errors import command_line
from recbole_llmtrsr.evaluation.comparison.runs import check_label
from recbole_llmtrsr.evaluation.external import evaluate_scores, write_external
from recbole_llmtrsr.evaluation.given_scores import COLUMNS, align_scores, read_scores
from recbole_llmtrsr.evaluation.metrics import EXPECTED
from recbole_llmtrsr.runtime.command_line import command_parser, program

_METRICS, _TOPK = ("recall", "mrr", "ndcg"), (3, 5, 10)


def _run(options: argparse.Namespace) -> int:
    for name in ("name", "dataset"):
        check_label(getattr(options, name), f"--{name}")
    candidates = read_candidate_file(options.candidates)
    scores = align_scores(candidates, read_scores(options.scores))
    table, found = evaluate_scores(candidates, scores, options.metrics, options.topk)
    write_external(options.out, options.name, options.dataset, options.seed, candidates, table, found)
    print("\n".join(f"{name:<16}{value:.4f}" for name, value in found.items()))
    print(f"{len(table):,} histories, candidates {candidates.digest[:12]}, results: {options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        program("evaluate", "recbole_llmtrsr.evaluation"),
        "Evaluate the scores that another program gave to the candidates of a comparison. 'recbole-llmtrsr report'"
        " compares the result with other runs.",
        [
            "score --candidates=saved/candidates/NAME.npz --scores=scores.csv --name=Other --dataset=ml-100k"
            " --out=results/other"
        ],
    )
    commands = parser.add_subparsers(dest="command", required=True)
    score = commands.add_parser(
        "score", help="write per_history.csv and result.json for a file of scores", allow_abbrev=False
    )
    score.add_argument("--candidates", type=Path, required=True, help="candidate file, .npz or .jsonl")
    score.add_argument(
        "--scores",
        type=Path,
        required=True,
        help=f".csv or .tsv with the columns {', '.join(COLUMNS)}, or .jsonl with these keys: one line per candidate",
    )
    score.add_argument("--name", required=True, help="the program's name in a comparison")
    score.add_argument("--out", type=Path, required=True, help="folder for the results, made if missing")
    score.add_argument(
        "--metrics", type=_names, default=_METRICS, help=f"some of {','.join(EXPECTED)} (recall,mrr,ndcg)"
    )
    score.add_argument("--topk", type=_numbers, default=_TOPK, help="cut-offs of the metrics (3,5,10)")
    score.add_argument("--dataset", required=True, help="name of the data set, as in the runs to compare with")
    score.add_argument(
        "--seed", type=_number, default=0, help="random seed of the program's run, which distinguishes several runs (0)"
    )
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be whole numbers separated by commas, got '{text}': write {','.join(map(str, _TOPK))}, for example"
        ) from None


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got '{text}': write --seed=0, or omit it") from None


main = command_line(_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
