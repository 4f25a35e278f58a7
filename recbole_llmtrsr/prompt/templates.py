"""All wording, in one registry.

Every domain says the same in its own words. A template is a Python format string; its fields are named in
``FIELDS``. Single templates can be replaced from a property file (``prompt_templates: {instruction: "..."}``).

Source: Zheng et al. (WWW 2024) describe the content of each prompt; the wording is ours.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from recbole_llmtrsr.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Templates:
    """The wording of one domain.

    Attributes:
        instruction: opens the recommender's prompt.
        instruction_without_summary: opens it where prompts have no summary section.
        paraphrase: the instruction in other words, for the ablation that replaces it in a trained model's prompts.
        paraphrase_without_summary: likewise, where prompts have no summary section.
        summary_header: stands before the preference summary.
        recent_header: stands before the recent items, one per line.
        candidate_header: stands before the candidate; with it ends the prefix that all candidates share.
        answer_slot: stands after the candidate; the answer is read behind it.
        none: stands where a history has no summary or no recent item.
        block: asks for the summary of one block.
        update: asks for a summary that takes a new block into account.
        merge: asks for one summary of all block summaries.
        retry: stands behind one of these when a faulty answer is generated once more.
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
        """These templates for prompts without a summary section."""
        return replace(self, instruction=self.instruction_without_summary, paraphrase=self.paraphrase_without_summary)

    def paraphrased(self) -> Templates:
        """These templates with the instruction in other words."""
        return replace(self, instruction=self.paraphrase)

    def with_overrides(self, overrides: Mapping[str, str]) -> Templates:
        """These templates with some replaced.

        Raises:
            UserError: an unknown template name or field, or a required field left out.
        """
        faults, plain = [], {}
        names = [f.name for f in fields(self)]
        for name, text in overrides.items():
            if name not in names:
                hint = did_you_mean(name, names)
                faults.append(f"prompt_templates: no template '{name}', there are {', '.join(names)}{hint}")
                continue
            try:
                used = {key for _, key, _, _ in string.Formatter().parse(text) if key is not None}
            except ValueError as error:
                faults.append(f"prompt_templates: {name}: {error}; write {{{{ and }}}} for braces")
                continue
            required = FIELDS.get(name, frozenset())
            if used != required:
                faults.append(
                    f"prompt_templates: {name} must use the fields {sorted(required) or 'none'}, it uses {sorted(used)}"
                )
                continue
            try:
                filled = text.format(**dict.fromkeys(required, ""))
            except (ValueError, LookupError, AttributeError) as error:
                faults.append(f"prompt_templates: {name}: {error}; write {{{'}, {'.join(sorted(required))}}} as it is")
                continue
            if not required:  # read as it is, so its doubled braces become single here
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
    """The wording of a domain, with single templates replaced, asking for these answers.

    Raises:
        UserError: unknown domain, or a faulty override.
    """
    if domain not in DOMAINS:
        raise UserError(f"domain must be one of {', '.join(DOMAINS)}, got '{domain}'")
    wording = DOMAINS[domain]
    asking = {
        name: getattr(wording, name).replace(_asks_for(_ANSWERS), _asks_for(answers))
        for name in RECOMMENDER_INSTRUCTIONS
    }
    return replace(wording, **asking).with_overrides(overrides or {})
