from __future__ import annotations

import string
from dataclasses import asdict

import pytest

from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.prompt.templates import DOMAINS, FIELDS, templates_for


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_template_uses_exactly_its_fields(domain):
    for name, text in asdict(DOMAINS[domain]).items():
        used = {key for _, key, _, _ in string.Formatter().parse(text) if key is not None}
        assert used == FIELDS.get(name, frozenset()), name


def test_every_domain_speaks_in_its_own_words():
    assert len({templates.instruction for templates in DOMAINS.values()}) == len(DOMAINS)
    assert templates_for("news").candidate_header == "Candidate article:\n"
    assert templates_for("movies").recent_header == "\nLast movies, oldest first:\n"


@pytest.mark.parametrize(
    ("domain", "thing", "acted", "act"),
    [
        ("generic", "item", "chose", "choose"),
        ("news", "article", "read", "read"),
        ("products", "product", "bought", "buy"),
        ("movies", "movie", "watched", "watch"),
    ],
)
def test_the_instruction_in_full(domain, thing, acted, act):
    assert templates_for(domain).instruction == (
        f"Below are a summary of what a user has long been interested in and the {thing}s the user {acted} last."
        f" Weigh both: will the user {act} the candidate {thing} next? Answer yes or no.\n"
    )


def test_the_other_instructions_in_full():
    movies = templates_for("movies")
    assert movies.instruction_without_summary == (
        "Below are the movies a user watched last. Will the user watch the candidate movie next? Answer yes or no.\n"
    )
    assert movies.paraphrase == (
        "You are told what has appealed to somebody for a long time, and which movies this person watched most"
        " recently. Considering the two together, is the candidate movie the one this person is going to watch now?"
        " Answer yes or no.\n"
    )
    assert movies.paraphrase_without_summary == (
        "You are told which movies somebody watched most recently. Is the candidate movie the one this person is going"
        " to watch now? Answer yes or no.\n"
    )


@pytest.mark.parametrize("domain", DOMAINS)
def test_wording_without_a_summary_speaks_of_none(domain):
    wording = templates_for(domain).without_summary()
    for text in (wording.instruction, wording.paraphrased().instruction):
        assert not any(word in text for word in ("summary", "long", "both", "two"))


def test_each_instruction_has_its_own_paraphrase():
    wording = templates_for("news")
    assert wording.paraphrased().instruction == wording.paraphrase
    assert wording.without_summary().instruction == wording.instruction_without_summary
    assert wording.without_summary().paraphrased().instruction == wording.paraphrase_without_summary
    assert wording.paraphrased().summary_header == wording.without_summary().summary_header == wording.summary_header


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_instruction_asks_for_the_answers_that_were_set(domain):
    wording = templates_for(domain, answers=("like", "pass"))
    for name in ("instruction", "instruction_without_summary", "paraphrase", "paraphrase_without_summary"):
        assert getattr(wording, name).endswith("? Answer like or pass.\n"), name


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_written_prompt_keeps_braces_of_the_items(domain):
    templates = templates_for(domain)
    assert "a {b} %s c" in templates.block.format(items="a {b} %s c")
    assert templates.update.format(summary="S{1}", items="I").index("S{1}") < templates.update.format(
        summary="S{1}", items="I"
    ).index("I")
    assert "x\ny" in templates.merge.format(summaries="x\ny")


def test_single_templates_are_replaced():
    changed = templates_for("news", {"none": "-", "block": "Sum up: {items}"})
    assert (changed.none, changed.block) == ("-", "Sum up: {items}")
    assert changed.instruction == templates_for("news").instruction
    assert templates_for("news").none == "none"


def test_doubled_braces_are_written_single_in_every_template():
    changed = templates_for("news", {"instruction": "Answer {{yes}} or no.", "block": "As {{json}}: {items}"})
    assert changed.instruction == "Answer {yes} or no."
    assert changed.block.format(items="x") == "As {json}: x"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"instructon": "x"},
            "prompt_templates: unknown template 'instructon': accepted are instruction, .*; did you mean 'instruction'",
        ),
        ({"zzz": "x"}, "prompt_templates: unknown template 'zzz': accepted are instruction, .*, merge, retry$"),
        ({"instruction": "{items}"}, r"instruction must use the fields none, got \['items'\]"),
        ({"block": "no field"}, r"block must use the fields \['items'\], got \[\]"),
        ({"block": "{}"}, r"block must use the fields \['items'\], got \[''\]"),
        ({"update": "{items}"}, r"update must use the fields \['items', 'summary'\], got \['items'\]"),
        ({"block": "{items.__class__}"}, r"block must use the fields \['items'\]"),
        ({"block": "{items} {"}, "block: .*; write {{ and }} for braces"),
        ({"block": "{items:d}"}, "block: .*; write {items} as it is"),
        ({"block": "{items:{width}}"}, "block: .*; write {items} as it is"),
    ],
)
def test_a_faulty_override_is_told(overrides, message):
    with pytest.raises(UserError, match=message):
        templates_for("generic", overrides)


def test_all_faulty_overrides_come_at_once():
    with pytest.raises(UserError) as fault:
        templates_for("generic", {"blok": "x", "merge": "x"})
    assert len(fault.value.faults) == 2


def test_an_unknown_domain_names_the_known():
    with pytest.raises(UserError, match="domain must be one of generic, news, products, movies, got 'cooking'"):
        templates_for("cooking")
