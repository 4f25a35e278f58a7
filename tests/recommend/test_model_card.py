"""What a model card says of options and licences, for values that no run of a test has."""

from __future__ import annotations

import pytest

from recbole_llmtrsr.recommend.model_card import _licence, _options


@pytest.mark.parametrize(
    ("summarizer", "said"),
    [
        ("openai:qwen@http://host:8000/v1", '"openai:qwen"'),
        ("openai:@cf/meta/llama@https://host/v1", '"openai:@cf/meta/llama"'),
        ("file:/home/me/texts.jsonl", '"file:texts.jsonl"'),
        ("/home/me@work/models/qwen", '"qwen"'),
        ("org/model", '"org/model"'),
    ],
)
def test_a_card_names_a_summarizer_without_its_place(summarizer: str, said: str) -> None:
    options = {"backbone": "builtin", "tune": "auto", "summary": "hierarchical", "summarizer": summarizer}
    (line,) = [line for line in _options(options).splitlines() if line.startswith("| summarizer ")]
    assert line.split("|")[2].strip() == said


def test_a_base_whose_card_was_not_downloaded_is_not_said_to_have_no_licence() -> None:
    """Loading a model of the hub downloads its weights, but not its card."""
    assert _licence("nobody/never-loaded") == (
        "Its licence is not known here, because its model card is not on this machine."
    )
