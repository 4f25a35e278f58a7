"""Outcomes of a plan's calls, warnings about replaced or faulty texts, and the refusal of a failing writer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from logging import getLogger

from recbole_llmtrsr.errors import UserError

MOST_LOST = 0.5  # share of the texts; beyond it, results would carry the name of a model that wrote few of them
TOLD = 0.05  # share of the texts: more frequent faults are logged, others are in the result only

_THINKING = (
    "where it thinks before it answers, switch that off (at a server with summarizer_request: {chat_template_kwargs:"
    " {enable_thinking: false}}, or as its own manual says)"
)
_LONGER = "raise summarizer_max_new_tokens"
_OTHER = "choose another model"
_SERVER = "see the server's log, and summarizer_timeout, summarizer_retries and summarizer_context"
_REPLACE = "set faulty_summaries: retry or fallback"


@dataclass
class Counts:
    """Outcomes of a plan's calls: calls + repeated = equal + found + made + all failures.

    Attributes:
        different: calls with a text, without those that are equal to another call.
        equal: calls that read the same as another call of their wave, and share its answer.
        found: answers from the store, those of other processes included.
        made: answers of this process's writer.
        repeated: second attempts at a faulty answer.
        replaced: texts of the extractive writer in place of a missing or faulty answer.
        failures: attempts without an answer, by reason.
        faults: first answers by fault; one answer can have several.
        remaining_faults: answers that are used, by fault.
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
    """Refuse a writer most of whose texts are replaced.

    Raises:
        UserError: more than half of the texts are replaced; the message names counts, causes and remedies.
    """
    if counts.replaced > MOST_LOST * counts.different:
        used = counts.different - counts.replaced
        raise UserError(
            f"summarizer '{name}': {used or 'none'} of {counts.different} texts can be used ({_causes(counts)}), and"
            f" extracts would stand under its name: {remedy(counts)}. The summary_store keeps what was answered: after"
            " a change at a server alone, name another store"
        )


def tell_losses(counts: Counts, with_remedies: bool) -> None:
    """Warn of replaced texts, and of faults that are frequent among the texts in use."""
    logger = getLogger(__name__)
    if counts.replaced:
        helps = f": {remedy(counts)}" if with_remedies else ""
        logger.warning(
            f"{counts.replaced} of {counts.different} summaries are replaced by extracts ({_causes(counts)}){helps}; a"
            " further run asks again where there was no answer"
        )
    many = {name: n for name, n in counts.remaining_faults.items() if n > TOLD * counts.different}
    if many and with_remedies:
        found = ", ".join(f"{n} {name}" for name, n in many.items())
        longer = f"{_LONGER}; {_THINKING}; " if "cut_off" in many else ""
        logger.warning(
            f"of {counts.different} summaries that are used, so many have a fault: {found}: {longer}{_REPLACE}, or"
            f" {_OTHER}"
        )


def remedy(counts: Counts) -> str:
    """Remedies for the faults and failures counted."""
    helps = [_SERVER] if counts.failures else []
    if not {"empty", "thinks", "cut_off"}.isdisjoint(counts.faults):
        helps += [_LONGER, _THINKING]
    return "; ".join([*helps, f"or {_OTHER}" if helps else _OTHER])


def _causes(counts: Counts) -> str:
    told = {"failures": dict(counts.failures), "faults": dict(counts.faults)}
    return ", ".join(f"{name}: {of_kind}" for name, of_kind in told.items() if of_kind)
