"""When it makes no sense to go on with a server, and what the user can do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NoReturn

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.llm.generators.server_replies import Fault
from recbole_llmtrsr.runtime.network import proxy_of

PATIENCE = 16  # prompts in a row without an answer that are always put up with


class Refusals:
    """Takes note of faults and raises a UserError at those that all other prompts would meet too.

    Args:
        server: what the user calls it, with its url.
        url: what is asked.
        has_key: whether a key is sent.
        concurrency: most requests under way at a time; twice as many prompts in a row may go without an answer.
    """

    def __init__(self, server: str, url: str, has_key: bool, concurrency: int) -> None:
        self._server, self._url = server, url
        self._has_key = has_key
        self._patience = max(PATIENCE, 2 * concurrency)
        self._unanswered = 0  # prompts since the last answer

    def first_contact(self, fault: Fault) -> None:
        """A list of models was not to be had; many servers answer prompts without listing models."""
        if fault.status is None:
            self._refuse(fault, "is not there", "start the server, or correct the base url")
        if fault.status == 401:
            self._refuse_key(fault)

    def answered(self) -> None:
        """A prompt got its answer."""
        self._unanswered = 0

    def unanswered(self, fault: Fault, model: str, listed: Iterable[str]) -> None:
        """A prompt got no answer.

        Args:
            fault: the last one it met.
            model: what was asked for.
            listed: models that the server has, as far as it told.
        """
        if fault.status in (401, 403):
            self._refuse_key(fault)
        if fault.status == 404:
            models = sorted(listed)
            shown = f"it lists {', '.join(models[:20])}{', ...' if models[20:] else ''}" if models else "it lists none"
            near = difflib.get_close_matches(model, models, 1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            remedy = f"{shown}{meant}; most base urls end in /v1, check this one too"
            self._refuse(fault, f"has no model {model!r}", remedy)
        self._unanswered += 1
        if self._unanswered > self._patience:
            self._refuse(
                fault,
                f"gave no answer to {self._unanswered} prompts in a row",
                "what it wrote before is in the store, a rerun goes on from there; see the server's log, and"
                " summarizer_timeout, summarizer_retries and summarizer_context",
            )

    def _refuse_key(self, fault: Fault) -> NoReturn:
        what = "refuses the key" if self._has_key else "refuses requests without a key"
        remedy = "put a valid one into the environment variable that summarizer_api_key_variable names"
        self._refuse(fault, what, remedy)

    def _refuse(self, fault: Fault, what: str, remedy: str) -> NoReturn:
        proxy = proxy_of(self._url)
        if proxy is not None:
            what += f", asked through the proxy of {proxy},"
            remedy += "; or correct the proxy, or add the server's host to NO_PROXY"
        raise UserError(f"summarizer '{self._server}' {what} ({fault}): {remedy}")
