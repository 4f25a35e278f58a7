"""``recbole-llmtrsr serve``, or ``python -m recbole_llmtrsr.serve``: serves a finished run over HTTP."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec

from recbole_llmtrsr.errors import UserError, command_line
from recbole_llmtrsr.runtime.command_line import command_parser, named_value, program

TOKEN_VARIABLE = "RECOMMENDER_TOKEN"
_MIN_TOKEN = 16  # characters


def _serve(options: argparse.Namespace) -> int:
    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise UserError(f"serving needs {', '.join(missing)}: pip install '.[serving]'")
    # Imported late: --help and a mistyped flag should not wait for torch and transformers.
    import uvicorn

    from recbole_llmtrsr.recommend import Recommender
    from recbole_llmtrsr.runtime.network import is_loopback
    from recbole_llmtrsr.serve.app import Limits, make_app
    from recbole_llmtrsr.serve.patience import impatient

    token = _token(options, is_loopback(options.host))
    places = dict(named_value(one) for one in options.option)
    recommender = Recommender.load(
        options.run, options=places, checkpoint=options.checkpoint, most_prompts=options.most_prompts
    )
    limits = Limits(
        max_waiting=options.max_waiting,
        max_prompts=options.max_batch_prompts,
        max_body=options.max_body_bytes,
        body_seconds=options.body_seconds,
        answer_seconds=options.answer_seconds,
        shutdown_seconds=options.shutdown_seconds,
    )
    app = make_app(recommender, limits, token, only_loopback=token is None)
    logging.basicConfig(level=logging.INFO)
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        http=impatient(options.body_seconds),
        ws="none",
        access_log=options.access_log,
        server_header=False,
        limit_concurrency=4 * options.max_waiting + 64,  # connections
        timeout_keep_alive=15,
        timeout_graceful_shutdown=options.shutdown_seconds,
    )
    if app.state.worker.is_left_behind:  # the interpreter would abort at its end, while the model still works
        logging.shutdown()
        os._exit(0)
    return 0


def _token(options: argparse.Namespace, loopback: bool) -> str | None:
    """The token from the environment, which is never printed or logged.

    Raises:
        UserError: there is none, or a guessable one, and the server can be reached from elsewhere.
    """
    token = os.environ.get(options.token_variable) or None
    if token is None and not loopback:
        raise UserError(
            f"host {options.host} can be reached from other machines, and the environment variable"
            f" {options.token_variable} is not set: put a secret token into it, which clients send as 'Authorization:"
            " Bearer <token>', or leave --host away"
        )
    if token is not None and not re.fullmatch(rf"[!-~]{{{_MIN_TOKEN},}}", token):
        raise UserError(
            f"the token in {options.token_variable} must be at least {_MIN_TOKEN} printable ASCII characters without"
            " spaces: make one with python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token


def _at_least(least: float, kind: Callable[[str], float]) -> Callable[[str], float]:
    def checked(text: str) -> float:
        with suppress(ValueError):
            if (value := kind(text)) >= least:
                return value
        raise argparse.ArgumentTypeError(f"must be a number >= {least:g}, got '{text}'")

    return checked


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        program("serve", "recbole_llmtrsr.serve"),
        "Serve a finished run over HTTP: POST /rank, /recommend, /explain; GET /health, /metrics, /openapi.json. Start"
        " the server in the folder in which the run was started, because paths of the run are relative to it.\n\n"
        f"If the environment variable {TOKEN_VARIABLE} holds a token, every request must send it as 'Authorization:"
        " Bearer <token>'; without it, /health returns the status only. Behind a proxy, set a token on 127.0.0.1 too."
        " One process serves one run with one model; terminate TLS in front of it. The thread of the model also writes"
        " missing summaries, and all requests wait meanwhile.",
        ["--run=results/runs/RUN", "--run=results/runs/RUN --port=8080 --option=use_gpu=False"],
    )
    add = parser.add_argument
    count, seconds = _at_least(1, int), _at_least(0.1, float)
    add("--run", required=True, metavar="FOLDER", help="result folder of a run of LLMTRSR or TALLRec")
    add("--checkpoint", metavar="FILE", help="the run's .pth file, if it was moved")
    add(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option whose value differs on this machine, such as data_path=dataset, use_gpu=False or"
        " summary_store=~; may be repeated; options that would change scores are refused",
    )
    add(
        "--host",
        default="127.0.0.1",
        help="address to bind to (127.0.0.1); any other than a loopback address needs a token",
    )
    add("--port", type=_at_least(0, int), default=8000, help="port to bind to (8000); 0 picks a free port")
    add(
        "--token_variable",
        default=TOKEN_VARIABLE,
        metavar="NAME",
        help=f"environment variable that holds the token ({TOKEN_VARIABLE}); its value is never logged",
    )
    add(
        "--max_waiting",
        type=count,
        default=64,
        help="requests that may wait for the model (64); further ones get 503 with Retry-After; at most four times as"
        " many connections plus 64 are open",
    )
    add(
        "--max_batch_prompts",
        type=count,
        default=256,
        help="prompts of waiting requests that are scored in one batch (256); a single request may have more",
    )
    add(
        "--max_body_bytes",
        type=count,
        default=2**18,
        help="largest body of a request in bytes (262144); larger ones get 413",
    )
    add(
        "--body_seconds",
        type=seconds,
        default=10.0,
        help="seconds for the header of a request to arrive, and for a response to be read (10), after which the"
        " connection is closed; the body has as many, then 408",
    )
    add(
        "--answer_seconds",
        type=seconds,
        default=60.0,
        help="seconds for a response, including waiting and the summary (60), then 504; waiting requests are"
        " dropped, and the result of the one in progress is discarded",
    )
    add(
        "--most_prompts",
        type=count,
        default=1000,
        help="largest catalogue that /recommend searches without a retriever, with one prompt per item (1000)",
    )
    add(
        "--shutdown_seconds",
        type=count,
        default=30,
        help="seconds for open requests after the signal to stop (30); a batch in progress has as many again",
    )
    add("--access_log", action="store_true", help="log one line per request")
    return parser


main = command_line(_parser, _serve)

if __name__ == "__main__":
    sys.exit(main())
