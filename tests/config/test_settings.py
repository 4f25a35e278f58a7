from __future__ import annotations

import dataclasses
import re

import pytest

from recbole_llmtrsr.config.settings import OPTION_NAMES, Settings, all_options, type_name, unknown_options
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.prompt.templates import DOMAINS
from recbole_llmtrsr.summarizer.planning.make_plan import PARADIGMS


def faults(**options) -> tuple[str, ...]:
    with pytest.raises(UserError) as fault:
        Settings.from_options(options)
    return fault.value.faults


def test_defaults_need_no_option():
    settings = Settings.from_options({})
    assert (settings.summary.block_size, settings.prompt.answers) == (5, ("yes", "no"))
    assert settings == Settings.from_options({"epochs": 3, "learning_rate": 0.1})


def test_settings_do_not_change():
    settings = Settings.from_options({})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.summary.block_size = 3  # type: ignore[misc]


def test_the_mapping_of_one_is_not_the_mapping_of_another():
    assert Settings.from_options({}).prompt.prompt_templates is not Settings.from_options({}).prompt.prompt_templates


def test_what_is_flat_makes_the_same_settings_again():
    given = {
        "block_size": 3,
        "answers": ["ja", "nein"],
        "item_text_fields": ["title"],
        "prompt_templates": {"none": "-"},
    }
    settings = Settings.from_options(given)
    assert given.items() <= settings.flat().items()
    assert Settings.from_options(settings.flat()) == settings
    assert list(settings.flat()) == list(OPTION_NAMES)


def test_every_option_has_a_name_of_its_own_and_one_documented_line():
    assert len(set(OPTION_NAMES)) == len(OPTION_NAMES)
    for _, spec, kind in all_options():
        assert spec.metadata["doc"].endswith(".")
        assert "\n" not in spec.metadata["doc"]
        assert type_name(kind)


def test_free_text_says_what_it_names():
    """A run folder from elsewhere may name models and places; what does not say so would be taken from it unasked."""
    for _, spec, kind in all_options():
        is_free = "str" in type_name(kind) and not spec.metadata["choices"]
        assert bool(spec.metadata["names"]) == is_free, spec.name


def test_choices_are_those_that_exist():
    choices = {spec.name: spec.metadata["choices"] for _, spec, _ in all_options()}
    assert set(choices["domain"]) == set(DOMAINS)
    assert set(choices["summary"]) == {*PARADIGMS, "none"}


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("item_text_fields", "title", ("title",)),
        ("item_text_fields", None, None),
        ("item_text_fields", "None", None),
        ("answers", [True, False], ("yes", "no")),
        ("prompt_templates", None, {}),
        ("lora_dropout", 0, 0.0),
        ("max_full_sort_scores", 1e6, 1_000_000),
        ("max_blocks", None, None),
        ("result_dir", "a=b", "a=b"),
        ("also_test", "pop20,match20", ("pop20", "match20")),
        ("item_text_fields", ["a,b"], ("a,b",)),
        ("adam_betas", [0, 0.5], (0.0, 0.5)),
    ],
)
def test_what_yaml_and_flags_leave_open_is_settled(name, given, read):
    settings = Settings.from_options({name: given})
    groups = [getattr(settings, group.name) for group in dataclasses.fields(settings)]
    value = next(getattr(group, name) for group in groups if hasattr(group, name))
    assert value == read
    assert type(value) is type(read)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("block_size", 0, "block_size must be >= 1, got 0"),
        ("block_size", 2.5, "block_size must be int, got 2.5"),
        ("block_size", "five", "block_size must be int, got 'five'"),
        ("block_size", True, "block_size must be int, got True"),
        ("block_size", None, "block_size must be int, got None"),
        ("max_blocks", 0, "max_blocks must be >= 1, got 0"),
        ("max_blocks", "all", "max_blocks must be int or ~, got 'all'"),
        ("lora_dropout", float("nan"), "lora_dropout must be >= 0, got nan"),
        ("warmup_ratio", "x", "warmup_ratio must be float, got 'x'"),
        ("item_text_labels", 1, "item_text_labels must be bool, got 1"),
        ("item_text_fields", {"a": 1}, "item_text_fields must be list of str or ~, got {'a': 1}"),
        ("answers", [1, 2], "answers must be list of str, got [1, 2]"),
        ("prompt_templates", "none", "prompt_templates must be mapping of str to str, got 'none'"),
        ("prompt_templates", {"none": 5}, "prompt_templates must be mapping of str to str, got {'none': 5}"),
        ("summarizer_request", [5], "summarizer_request must be mapping, got [5]"),
        ("summarizer_request", {"a": {5}}, "summarizer_request must be mapping, got {'a': {5}}"),
        ("backbone", 7, "backbone must be str, got 7"),
        (
            "summary",
            "hierarchial",
            "summary must be one of hierarchical, recurrent, none, got 'hierarchial'; did you mean 'hierarchical'?",
        ),
        ("domain", "cooking", "domain must be one of generic, news, products, movies, got 'cooking'"),
        ("domain", False, "domain must be one of generic, news, products, movies, got 'no'"),
        ("answers", ["yes"], "answers must be two different words, got ['yes']: write answers: [yes, no]"),
        (
            "answers",
            ["yes", "yes"],
            "answers must be two different words, got ['yes', 'yes']: write answers: [yes, no]",
        ),
        ("adam_betas", [0.9, 1], "adam_betas must be two numbers in [0, 1), got [0.9, 1.0]"),
        ("adam_betas", 0.9, "adam_betas must be two numbers in [0, 1), got [0.9]"),
        ("warmup_ratio", 1.5, "warmup_ratio must be between 0 and 1, got 1.5"),
        ("lora_dropout", 1, "lora_dropout must be below 1, got 1.0"),
        ("builtin_n_heads", 3, "builtin_hidden_size must be a multiple of 2 x builtin_n_heads (6), got 128"),
    ],
)
def test_a_fault_names_the_value_and_what_is_accepted(name, value, message):
    assert faults(**{name: value}) == (message,)


def test_all_faults_come_at_once():
    assert faults(block_size=0, n_recent_items=-1, attention="dense", max_item_tokens="many") == (
        "block_size must be >= 1, got 0",
        "n_recent_items must be >= 0, got -1",
        "max_item_tokens must be int, got 'many'",
        "attention must be one of auto, flash, flex, split, cached_prefix, plain, got 'dense'",
    )


def test_options_that_contradict_each_other_come_with_the_remedy():
    assert "set objective: pointwise" in faults(loss_on="full")[0]
    assert Settings.from_options({"loss_on": "full", "objective": "pointwise"}).training.loss_on == "full"
    assert "leaves no history in the prompt" in faults(summary="none", n_recent_items=0)[0]
    assert Settings.from_options({"summary": "none", "n_recent_items": 1}).summary.summary == "none"


@pytest.mark.parametrize(
    ("request_fields", "summarizer", "message"),
    [
        (
            {"model": "x"},
            "openai:m@http://x/v1",
            "summarizer_request cannot set model: summarizer: openai:<model>@<base url> names it",
        ),
        ({"messages": []}, "openai:m@http://x/v1", "cannot set messages: prompt_templates sets the wording of prompts"),
        ({"max_tokens": 9}, "openai:m@http://x/v1", "cannot set max_tokens: set summarizer_max_new_tokens instead"),
        ({"max_completion_tokens": 9}, "openai:m@http://x/v1", "set summarizer_max_new_tokens instead"),
        ({"temperature": 1}, "openai:m@http://x/v1", "cannot set temperature: answers are greedy"),
        ({"seed": 1}, "openai:m@http://x/v1", "cannot set seed: answers are greedy"),
        ({"stream": True}, "openai:m@http://x/v1", "cannot set stream: the summarizer reads one complete answer"),
        ({"top_k": 1}, "extractive", "applies to a server only: leave it out, or set summarizer: openai:<model>@"),
    ],
)
def test_fields_of_a_request_that_are_not_free_name_the_option_to_use(request_fields, summarizer, message):
    (fault,) = faults(summarizer_request=request_fields, summarizer=summarizer)
    assert re.search(message, fault)


def test_fields_of_a_request_are_any_json():
    request = {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "low", "top_p": 1, "stop": ["x"]}
    options = {"summarizer": "openai:m@http://x/v1", "summarizer_request": request}
    assert Settings.from_options(options).summary.summarizer_request == request
    assert Settings.from_options({"summarizer_request": None}).summary.summarizer_request == {}


def test_a_near_miss_is_a_fault_and_a_stranger_is_not():
    names = dict.fromkeys(["blok_size", "epocs", "zebra", "block_size", "epochs"])
    assert unknown_options(names, {"epochs"}) == (
        [
            "option 'blok_size' does not exist; did you mean 'block_size'?",
            "option 'epocs' does not exist; did you mean 'epochs'?",
        ],
        ["zebra"],
    )


def test_an_unfinished_block_must_be_covered_by_the_recent_items():
    def fault(**options):
        with pytest.raises(UserError) as caught:
            Settings.from_options({"summarizer": "org/model", "block_size": 6, **options})
        return str(caught.value)

    assert "n_recent_items must be at least block_size - 1 = 5, got 4, because" in fault(n_recent_items=4)
    for remedy in ({"n_recent_items": 5}, {"summarize_remainder": True}, {"summary": "none"}):
        Settings.from_options({"summarizer": "org/model", "block_size": 6, "n_recent_items": 4, **remedy})
    Settings.from_options({"block_size": 6, "n_recent_items": 4})
    Settings.from_options({"summarizer": "file:my.jsonl", "block_size": 6, "n_recent_items": 4})


def test_a_user_id_of_digits_is_text():
    assert Settings.from_options({"explain": 196}).evaluation.explain == "196"
    with pytest.raises(UserError, match=r"explain must be str or ~, got 1\.1"):
        Settings.from_options({"explain": 1.1})
