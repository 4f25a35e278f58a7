"""What a model card says of options and licences, for values that no run of a test has."""

from __future__ import annotations

import pytest

from recbole_llmtrsr.recommend.model_card import _options


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
