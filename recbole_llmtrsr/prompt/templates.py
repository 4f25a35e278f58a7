"""Registry of all prompt templates.

All domains have the same templates in different words. A template is a Python format string, and ``FIELDS`` lists its
fields. A property file can replace single templates (``prompt_templates: {instruction: "..."}``).

Source: Zheng et al. (WWW 2024) describe the content of each prompt; the wording is ours.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from recbole_llmtrsr.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Templates:
    """The templates of one domain.

    Attributes:
        instruction: first section of the recommender's prompt.
        instruction_without_summary: first section of prompts without a summary section.
        paraphrase: the instruction in other words, for the ablation that replaces it in a trained model's prompts.
        paraphrase_without_summary: paraphrase for prompts without a summary section.
        summary_header: text before the preference summary.
        recent_header: text before the recent items, which follow one per line.
        candidate_header: text before the candidate; it ends the prefix that all candidates share.
        answer_slot: text after the candidate; the model's answer follows it.
        none: text that replaces a missing summary or missing recent items.
        block: prompt for the summary of one block.
        update: prompt for a summary that takes a new block into account.
        merge: prompt for one summary of all block summaries.
        retry: text appended to one of these three prompts for the second attempt after a faulty answer.
    """

    instruction: str
    instruction_without_summary: str
    paraphrase: str
    paraphrase_without_summary: str
    summary_header: str
    recent_header: str
    candidate_header: str
    answer_slot: str
    none: str
    block: str
    update: str
    merge: str
    retry: str

    def without_summary(self) -> Templates:
        """Return the templates for prompts without a summary section."""
        return replace(self, instruction=self.instruction_without_summary, paraphrase=self.paraphrase_without_summary)

    def paraphrased(self) -> Templates:
        """Return the templates with the paraphrased instruction."""
        return replace(self, instruction=self.paraphrase)

    def with_overrides(self, overrides: Mapping[str, str]) -> Templates:
        """Return the templates with some of them replaced.

        Raises:
            UserError: if a template name or a field is unknown, or a required field is missing.
        """
        faults, plain = [], {}
        names = [f.name for f in fields(self)]
        for name, text in overrides.items():
            if name not in names:
                hint = did_you_mean(name, names)
                faults.append(f"prompt_templates: unknown template '{name}': accepted are {', '.join(names)}{hint}")
                continue
            try:
                used = {key for _, key, _, _ in string.Formatter().parse(text) if key is not None}
            except ValueError as error:
                faults.append(f"prompt_templates: {name}: {error}; write {{{{ and }}}} for braces")
                continue
            required = FIELDS.get(name, frozenset())
            if used != required:
                faults.append(
                    f"prompt_templates: {name} must use the fields {sorted(required) or 'none'}, got {sorted(used)}"
                )
                continue
            try:
                filled = text.format(**dict.fromkeys(required, ""))
            except (ValueError, LookupError, AttributeError) as error:
                faults.append(f"prompt_templates: {name}: {error}; write {{{'}, {'.join(sorted(required))}}} as it is")
                continue
            if not required:  # used without formatting later, so doubled braces become single here
                plain[name] = filled
        if faults:
            raise UserError(faults)
        return replace(self, **{**overrides, **plain})


FIELDS: dict[str, frozenset[str]] = {
    "block": frozenset({"items"}),
    "update": frozenset({"summary", "items"}),
    "merge": frozenset({"summaries"}),
}


RECOMMENDER_INSTRUCTIONS = ("instruction", "instruction_without_summary", "paraphrase", "paraphrase_without_summary")

_ANSWERS = ("yes", "no")


def _asks_for(answers: tuple[str, str]) -> str:
    return f"Answer {answers[0]} or {answers[1]}."


def _wording(thing: str, things: str, acted: str, act: str, details: str) -> Templates:
    return Templates(
        instruction=(
            f"Below are a summary of what a user has long been interested in and the {things} the user {acted} last."
            f" Weigh both: will the user {act} the candidate {thing} next? {_asks_for(_ANSWERS)}\n"
        ),
        instruction_without_summary=(
            f"Below are the {things} a user {acted} last. Will the user {act} the candidate {thing} next?"
            f" {_asks_for(_ANSWERS)}\n"
        ),
        paraphrase=(
            f"You are told what has appealed to somebody for a long time, and which {things} this person {acted} most"
            f" recently. Considering the two together, is the candidate {thing} the one this person is going to {act}"
            f" now? {_asks_for(_ANSWERS)}\n"
        ),
        paraphrase_without_summary=(
            f"You are told which {things} somebody {acted} most recently. Is the candidate {thing} the one this person"
            f" is going to {act} now? {_asks_for(_ANSWERS)}\n"
        ),
        summary_header="Long-term interest:\n",
        recent_header=f"\nLast {things}, oldest first:\n",
        candidate_header=f"Candidate {thing}:\n",
        answer_slot="\nAnswer:",
        none="none",
        block=(
            f"A user {acted} these {things}, oldest first:\n{{items}}\n\n"
            f"Describe in at most three sentences what this user likes, judging by {details}."
            " Write only the description."
        ),
        update=(
            f"What is known of a user's taste:\n{{summary}}\n\n"
            f"Since then the user {acted} these {things}, oldest first:\n{{items}}\n\n"
            f"Has the taste changed? Write one complete description of it as it is now, in at most three sentences,"
            f" judging by {details}. Do not tell how it changed. Write only the description."
        ),
        merge=(
            f"Descriptions of one user's taste, each from {things} the user {acted} in one period, oldest first:\n"
            f"{{summaries}}\n\n"
            "Write one overall description of the taste, in at most three sentences; what lasts and what is recent"
            " counts most. Write only the description."
        ),
        retry=" Be brief and plain: at most three short, complete sentences about the taste, each thing said once.",
    )


DOMAINS: dict[str, Templates] = {
    "generic": _wording("item", "items", "chose", "choose", "their kinds, features and makers"),
    "news": _wording("article", "articles", "read", "read", "topics, people, places and events"),
    "products": _wording("product", "products", "bought", "buy", "kind, brand, price, features and use"),
    "movies": _wording("movie", "movies", "watched", "watch", "genres, periods, themes and people"),
}


def templates_for(
    domain: str, overrides: Mapping[str, str] | None = None, answers: tuple[str, str] = _ANSWERS
) -> Templates:
    """Return the templates of a domain.

    Args:
        domain: name of the domain, a key of ``DOMAINS``.
        overrides: templates that replace the domain's, by name.
        answers: the two answers that the instructions ask for.

    Raises:
        UserError: if the domain is unknown or an override is invalid.
    """
    if domain not in DOMAINS:
        raise UserError(f"domain must be one of {', '.join(DOMAINS)}, got '{domain}'")
    wording = DOMAINS[domain]
    asking = {
        name: getattr(wording, name).replace(_asks_for(_ANSWERS), _asks_for(answers))
        for name in RECOMMENDER_INSTRUCTIONS
    }
    return replace(wording, **asking).with_overrides(overrides or {})
