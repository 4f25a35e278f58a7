from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recbole_llmtrsr.config.options import SummarySettings
from recbole_llmtrsr.data.item_text import ItemText
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.prompt.templates import templates_for
from recbole_llmtrsr.summarizer.writers.make_writer import make_writer
from recbole_llmtrsr.summarizer.writers.writer import SummaryWriter


def make(summarizer: str) -> SummaryWriter:
    settings = SummarySettings(summarizer=summarizer)
    catalogue = ItemText.from_rows(["title"], {"1": ["Heat"]})
    return make_writer(settings, catalogue, templates_for("movies"), device="cpu", dtype=torch.float32)


def test_extractive_is_made_without_a_model() -> None:
    assert make("extractive").name == "extractive"


@pytest.mark.parametrize("name", ["extractiv", "Extractive"])
def test_a_misspelt_writer_is_named_with_the_nearest_before_any_hub_is_asked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_llmtrsr.llm.loading.source.hub_fault", lambda: pytest.fail("the hub was asked"))
    with pytest.raises(UserError) as fault:
        make(name)
    assert str(fault.value) == (
        "summarizer must be 'extractive', 'smollm2', a model of the hub as 'organisation/model', an existing folder,"
        " a .gguf file,"
        f" 'openai:<model>@<base url>', 'file:<path>' or a writer that an imported file registers,"
        f" got '{name}'; did you mean 'extractive'?"
    )


@pytest.mark.parametrize(("given", "model"), [("vllm:Qwen/Qwen3-8B", "Qwen/Qwen3-8B"), ("vllm:", "<model>")])
def test_vllm_is_asked_as_a_server(given: str, model: str) -> None:
    with pytest.raises(UserError) as fault:
        make(given)
    assert str(fault.value) == (
        f"summarizer '{given}': vLLM is supported as a server: start it with `vllm serve {model}`, install"
        f' `pip install "recbole_llmtrsr[server]"`, and set `summarizer: openai:{model}@http://localhost:8000/v1`'
    )


def test_a_bare_word_that_resembles_nothing_gets_the_accepted_forms_alone() -> None:
    with pytest.raises(UserError, match=r"got 'gpt2'$"):
        make("gpt2")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere' is not a folder.*extractive"):
        make(str(tmp_path / "nowhere"))


def test_the_extractive_writer_does_not_load_transformers() -> None:
    code = (
        "import sys, recbole_llmtrsr.summarizer.writers.make_writer;"
        " sys.exit('transformers' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
