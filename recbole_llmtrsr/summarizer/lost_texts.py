"""Outcomes of a plan's calls, warnings about replaced or faulty texts, and the refusal of a failing writer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from logging import getLogger

from recbole_llmtrsr.errors import UserError

MOST_LOST = 0.5  # share of the texts; beyond it, results would carry the name of a model that wrote few of them
TOLD = 0.05  # share of the texts; the log reports faults above it, and result.json reports all

_THINKING = (
    "if the model reasons before it answers, disable that (on a server with summarizer_request: {chat_template_kwargs:"
    " {enable_thinking: false}}, or as the server's manual describes)"
)
_LONGER = "raise summarizer_max_new_tokens"
_OTHER = "choose another model"
_SERVER = "check the server's log, and the options summarizer_timeout, summarizer_retries and summarizer_context"
_REPLACE = "set faulty_summaries: retry or fallback"


@dataclass
class Counts:
    """Outcomes of a plan's calls: calls + repeated = equal + found + made + all failures.

    Attributes:
        different: calls that got a text; calls with equal inputs count once.
        equal: calls with the same inputs as another call of their wave, whose answer they share.
        found: answers from the store, including those of other processes.
        made: answers that this process's writer gave.
        repeated: second attempts at a faulty answer.
        replaced: texts of the extractive writer in place of a missing or faulty answer.
        failures: attempts without an answer, by reason.
        faults: first answers by fault; one answer can have several.
        remaining_faults: answers in use that have a fault, by fault.
    """

    different: int = 0
    equal: int = 0
    found: int = 0
    made: int = 0
    repeated: int = 0
    replaced: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    remaining_faults: Counter[str] = field(default_factory=Counter)


def check_losses(name: str, counts: Counts) -> None:
    """Refuse a writer if extracts replace most of its texts.

    Raises:
        UserError: more than half of the texts are replaced; the message names counts, causes and remedies.
    """
    if counts.replaced > MOST_LOST * counts.different:
        used = counts.different - counts.replaced
        raise UserError(
            f"summarizer '{name}': {used or 'none'} of {counts.different} texts are usable ({_causes(counts)}), so the"
            f" results would rest on extracts rather than on its summaries: {remedy(counts)}. The summary_store keeps"
            " the answers received so far: if you change only the server, set summary_store to a new file"
        )


def tell_losses(counts: Counts, with_remedies: bool) -> None:
    """Warn about replaced texts, and about faults that are frequent among the texts in use."""
    logger = getLogger(__name__)
    if counts.replaced:
        helps = f": {remedy(counts)}" if with_remedies else ""
        logger.warning(
            f"{counts.replaced} of {counts.different} summaries are replaced by extracts ({_causes(counts)}){helps}."
            " The next run repeats the calls that got no answer"
        )
    many = {name: n for name, n in counts.remaining_faults.items() if n > TOLD * counts.different}
    if many and with_remedies:
        found = ", ".join(f"{n} {name}" for name, n in many.items())
        longer = f"{_LONGER}; {_THINKING}; " if "cut_off" in many else ""
        logger.warning(
            f"some of the {counts.different} summaries in use have faults ({found}): {longer}{_REPLACE}, or {_OTHER}"
        )


def remedy(counts: Counts) -> str:
    """Return remedies for the counted faults and failures."""
    helps = [_SERVER] if counts.failures else []
    if not {"empty", "thinks", "cut_off"}.isdisjoint(counts.faults):
        helps += [_LONGER, _THINKING]
    return "; ".join([*helps, f"or {_OTHER}" if helps else _OTHER])


def _causes(counts: Counts) -> str:
    told = {"failures": dict(counts.failures), "faults": dict(counts.faults)}
    return ", ".join(f"{name}: {of_kind}" for name, of_kind in told.items() if of_kind)
