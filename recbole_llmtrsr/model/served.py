"""The scorer of a model behind a server, from the options, and the options that it excludes."""

from __future__ import annotations

import os

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.settings import Settings
from recbole_llmtrsr.engine.served_scorer import ServedScorer
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.server_client import PREFIX, parse_server
from recbole_llmtrsr.llm.generators.server_scores import ServerScores
from recbole_llmtrsr.llm.tokenization.text_pieces import TextPieces
from recbole_llmtrsr.runtime import processes


def make_served_scorer(settings: Settings) -> ServedScorer:
    """Create the scorer that the option `scorer` names; it sends requests only at its first prompt.

    Raises:
        UserError: the value names no server, the package `openai` is missing, or the key cannot be sent.
    """
    options, requests, prompt = settings.backbone, settings.summary, settings.prompt
    assert options.scorer is not None
    first, second = prompt.answers
    server = ServerScores(
        *parse_server(options.scorer, "scorer"),
        api_key=os.environ.get(options.scorer_api_key_variable),
        concurrency=requests.summarizer_concurrency,
        timeout=requests.summarizer_timeout,
        retries=requests.summarizer_retries,
        answers=(first, second),
        chat=prompt.chat_template == "auto",
        request=options.scorer_request,
        max_prompt_tokens=prompt.max_prompt_tokens,
    )
    return ServedScorer(server, TextPieces())


def check_scorer(config: Config) -> None:
    """Refuse options that cannot be combined with a scorer, before any work starts.

    Raises:
        UserError: the value names no server, there are several processes, or a checkpoint is to be loaded.
    """
    scorer = config.settings.backbone.scorer
    assert scorer is not None
    if not scorer.startswith(PREFIX):
        raise UserError(
            f"scorer must be '{PREFIX}<model>@<base url>', got '{scorer.partition('://')[0]}': name a server, or set"
            " backbone for a model that runs in this process"
        )
    parse_server(scorer, "scorer")
    if config.settings.evaluation.checkpoint is not None:
        raise UserError("checkpoint has no weights to load into a model behind a server: remove checkpoint or scorer")
    if processes.count() > 1:
        raise UserError(
            f"scorer: one process sends all requests, but there are {processes.count()}: launch a single process, and"
            " raise summarizer_concurrency for more requests at the same time"
        )
