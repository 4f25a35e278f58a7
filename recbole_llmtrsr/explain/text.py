"""An explanation as text for a terminal of 100 columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from recbole_llmtrsr.data.item_text import one_line
from recbole_llmtrsr.explain.explanation import Explanation, facts
from recbole_llmtrsr.explain.page import N_SHOWN
from recbole_llmtrsr.explain.ranking import Ranked, best
from recbole_llmtrsr.summarizer.trace import TracedCall

WIDTH = 100


def text(explanation: Explanation) -> str:
    """The content of the page, in lines of at most 100 columns; control characters become spaces."""
    parts = (_head, _history, _merges, _summary, _prompt, _candidates, _options)
    return "\n".join(line for part in parts for line in part(explanation)) + "\n"


def brief(e: Explanation, width: int) -> str:
    """The explanation in at most nine lines of `width` columns: target, history, summary, prompt, best candidates."""
    target, n_recent = e.ranked_target, min(e.n_recent, len(e.history))
    rank = f", rank {target.rank_text} of {len(e.ranking)}" if target else ""
    of_target = "" if e.target is None else f": the target (>) is {e.target.line}{rank}"
    limit = f" of at most {e.prompt_limit}" if e.prompt_limit else ""
    lines = [
        ("", f"explanation of {e.subject}{of_target}"),
        ("  history: ", f"{len(e.history)} events, of which the prompt shows the last {n_recent} one by one"),
        ("  summary: ", e.summary or "none"),
        ("  prompt:  ", f"{e.prompt_tokens} tokens{limit}" if e.sections else "none"),
        *((_score(r), r.candidate.line) for r in best(e.ranking, 5)),
    ]
    return "\n".join(clipped(f"{lead}{one_line(content)}", width) for lead, content in lines)


def _score(r: Ranked) -> str:
    mark = ">" if r.candidate.is_target else " "
    return f"  {mark}{r.rank_text:>5}  P(yes) {r.candidate.p_yes:.4f}  log-odds {r.candidate.log_odds:+.3f}  "


def clipped(content: str, width: int) -> str:
    """A text cut to a number of columns, the cut marked.

    >>> clipped("Heat (1995)", 20), clipped("Heat (1995)", 8)
    ('Heat (1995)', 'Heat ...')
    """
    if columns(content) <= width:
        return content
    kept = next(n for n in range(len(content), -1, -1) if columns(content[:n]) + 3 <= width)
    return f"{content[:kept]}..."


def _head(e: Explanation) -> Iterator[str]:
    yield from _title(f"How the ranking for {e.subject} came about", "=")
    target, pairs = e.ranked_target, {}
    if e.target is not None:
        pairs["target"] = f"{e.target.token} | {e.target.line}"
        pairs["rank"] = f"{target.rank_text} of {len(e.ranking)}" if target else "none"
    pairs |= {
        "data set": e.dataset,
        "model": e.model,
        "events": f"{len(e.history)} before the target" if e.target is not None else str(len(e.history)),
    }
    if target and target.n_equal > 1:
        pairs["rank"] += f", the mean over a random order of {target.n_equal} candidates of equal score"
    if e.n_targets > 1:
        pairs["targets"] = f"the latest of this user's {e.n_targets} targets is explained"
    yield from _pairs(pairs)


def _history(e: Explanation) -> Iterator[str]:
    yield from _title(f"History in blocks of {e.block_size}" if e.block_size else "History")
    yield f"Oldest first; * marks {'recent items of the prompt' if e.sections else 'what a prompt shows item by item'}."
    for number, block in enumerate(e.blocks, start=1):
        if e.block_size:
            yield from ("", f"Block {number}")
        for event, item in enumerate(block.items, start=block.first):
            lead = f"{event:>5}{'*' if e.is_recent(event) else ' '} "
            yield from _wrap(f"{item.token} | {item.line}", lead, " " * len(lead))
        if block.call:
            source = f"takes it into the text of call {block.call.inputs[0]}" if block.call.inputs else "reads it alone"
            yield from _call(e, block.call, source)
        elif e.block_size:
            recent = (e.is_recent(block.first), e.is_recent(block.last))
            reach = {(True, True): "all of it is among the recent items"}.get(
                recent, "only the items marked * reach the prompt" if recent[1] else "nothing of it reaches the prompt"
            )
            yield from _wrap(f"in no summary: {reach}", "  ")


def _merges(e: Explanation) -> Iterator[str]:
    if not e.block_size:
        return
    yield from _title("From blocks to one summary")
    for call in e.merges:
        yield from _call(e, call, f"reads calls {', '.join(map(str, call.inputs))}")
    if e.result is None:
        yield "No call was needed: no block is full, and all that is known are the recent items."
    elif not e.merges:
        yield f"Nothing to merge: the text of call {e.result} is the summary."


def _summary(e: Explanation) -> Iterator[str]:
    yield from _title("Preference summary")
    yield from _wrap("Summaries are off (summary: none)." if e.summary is None else e.summary or "(empty)")


def _prompt(e: Explanation) -> Iterator[str]:
    yield from _title("Prompt")
    if not e.sections:
        yield "No prompt was made: there is no model in this run."
        return
    limit = f", of at most {e.prompt_limit}" if e.prompt_limit else ""
    yield from _wrap(
        f"As the model reads it for {e.prompt_of}: {e.prompt_tokens} tokens and 1 for the answer{limit}. Room is always"
        " kept for the longest candidate of the catalogue."
    )
    for section in e.sections:
        limit = "" if section.limit is None else f" of at most {section.limit}"
        yield from ("", f"[{section.name}] {section.tokens}{limit} tokens")
        if section.note:
            yield from _wrap(section.note, "  ! ", "    ")
        for line in section.text.removesuffix("\n").split("\n"):
            yield from _wrap(line, "  | ", "  | ")


def _candidates(e: Explanation) -> Iterator[str]:
    yield from _title("Candidates")
    if not e.ranking:
        yield from _wrap(f"No scores: {e.no_candidates}.")
        return
    ranked = best(e.ranking, N_SHOWN)
    if any(r.n_equal > 1 for r in ranked):
        yield "Candidates with equal scores share their mean rank over a random order (=)."
    yield f"{'rank':>7}   P(yes)  log-odds"
    for r in ranked:
        rank, score = f"{r.rank_text:>7}{'=' if r.n_equal > 1 else ' '}", r.candidate
        lead = f"{rank}  {score.p_yes:.4f}  {score.log_odds:+8.3f}  {'TARGET  ' if score.is_target else ''}"
        yield from _wrap(f"{score.token} | {score.line}", lead, " " * 28)
    if len(ranked) < len(e.ranking):
        yield f"{len(e.ranking) - len(ranked)} more candidates are not shown."


def _options(e: Explanation) -> Iterator[str]:
    if e.options:
        yield from _title("Options")
        yield from _pairs(dict(e.options))


def _call(e: Explanation, call: TracedCall, does: str) -> Iterator[str]:
    faults = [f"fault: {fault.replace('_', ' ')}" for fault in call.faults]
    yield from _wrap(f"call {call.number}, {call.kind}, {does}; {'; '.join((*facts(call), *faults))}", "  ", "    ")
    yield from _wrap(call.text or "(empty: nothing to say)", "  > ", "  > ")


def _title(title: str, line: str = "-") -> Iterator[str]:
    lines = list(_wrap(title))
    yield from ([] if line == "=" else [""])
    yield from (*lines, line * max(map(columns, lines)))


def _pairs(pairs: dict[str, str]) -> Iterator[str]:
    width = 2 + max(map(columns, pairs))
    for name, value in pairs.items():
        yield from _wrap(value, name.ljust(width), " " * width)


def _wrap(content: str, first: str = "", rest: str = "") -> Iterator[str]:
    """Lines of at most WIDTH columns, broken at spaces, and inside a word that is longer than a line."""
    line, empty = first, True
    for word in one_line(content).split(" "):
        if not empty and columns(line) + 1 + columns(word) > WIDTH:
            yield line.rstrip()
            line, empty = rest, True
        line += word if empty else f" {word}"
        empty = False
        while columns(line) > WIDTH:
            end = next(n for n in range(len(line), 0, -1) if columns(line[:n]) <= WIDTH)
            yield line[:end]
            line = rest + line[end:]
    yield line.rstrip()


def columns(content: str) -> int:
    """The width of a text in a terminal: two columns for CJK and emoji, none for combining marks and joiners.

    >>> columns("ab"), columns("\\u6f22\\u5b57"), columns("e\\u0301")
    (2, 4, 1)
    """
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in content
    )
