"""What every language-model recommender must do: learn a signal and no noise, come back from its checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_llmtrsr.config import Config
from recbole_llmtrsr.data.loaders import make_loaders
from recbole_llmtrsr.registry import get_dataset, get_model, get_trainer

TINY = {
    "builtin_hidden_size": 32,
    "builtin_n_layers": 2,
    "builtin_n_heads": 2,
    "builtin_vocab_size": 400,
    "max_prompt_tokens": 400,
    "summary": "none",
    "show_progress": False,
    "use_gpu": False,
    "state": "ERROR",
    "eval_args": {"mode": "uni5"},
    "candidate_exclusion": "target",
    "learning_rate": 0.01,
    "metrics": ["MRR"],
    "topk": [5],
    "valid_metric": "MRR@5",
}
MODELS = {
    "HLLM": {"epochs": 12, "targets_per_prompt": 8, "train_batch_size": 80, "n_shared_negatives": 4},
    "LiteLLM4Rec": {"epochs": 12, "targets_per_prompt": 8, "train_batch_size": 80},
}
COLOURS = ["red", "green", "blue", "black", "white", "pink", "gold", "grey"]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["test"])


def write_walks(folder, signal):
    """Each user walks through the colours in a circle, or jumps at random."""
    rng = np.random.default_rng(0)
    (folder / "toy").mkdir(parents=True)
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(120):
        start = int(rng.integers(8))
        walk = [(start + k) % 8 for k in range(8)] if signal else rng.integers(8, size=8)
        rows += [f"u{user}\ti{item}\t{time}" for time, item in enumerate(walk)]
    (folder / "toy" / "toy.inter").write_text("\n".join(rows) + "\n")
    items = ["item_id:token\ttitle:token_seq", *(f"i{k}\t{colour}" for k, colour in enumerate(COLOURS))]
    (folder / "toy" / "toy.item").write_text("\n".join(items) + "\n")


def built(folder, name, **options):
    model_class = get_model(name)
    config = Config(model_class, "toy", [], {**TINY, **MODELS[name], "data_path": str(folder), **options})
    torch.manual_seed(0)
    np.random.seed(0)
    (train, valid, test), *_ = make_loaders(config, get_dataset(model_class)(config))
    model = model_class(config, train._dataset)
    return get_trainer(model_class)(config, model), train, valid, test


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("signal", "low", "high"), [(True, 0.8, 1.0), (False, 0.28, 0.48)])
def test_a_signal_is_learned_and_without_one_the_model_stays_at_chance(tmp_path, name, signal, low, high):
    """Chance among 6 candidates is 0.38 MRR@5."""
    write_walks(tmp_path / "data", signal)
    trainer, train, valid, test = built(tmp_path / "data", name)
    trainer.fit(train, valid, saved=False, show_progress=False)
    assert low <= trainer.evaluate(test, load_best_model=False)["mrr@5"] <= high


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_brings_the_scores_back(tmp_path, name):
    write_walks(tmp_path / "data", True)
    trainer, train, valid, test = built(tmp_path / "data", name, epochs=1)
    trainer.fit(train, valid, show_progress=False)
    other, *_ = built(tmp_path / "data", name, seed=7)
    rows = next(iter(test))[0]
    with torch.no_grad():
        own = trainer.model.eval().predict(rows)
        assert not torch.allclose(other.model.eval().predict(rows), own)
        other.resume_checkpoint(trainer.saved_model_file)
        torch.testing.assert_close(other.model.eval().predict(rows), own)


@pytest.mark.parametrize("name", MODELS)
def test_full_ranking_gives_the_scores_of_candidates(tmp_path, name):
    write_walks(tmp_path / "data", False)
    trainer, _, _, test = built(tmp_path / "data", name)
    rows = next(iter(test))[0]
    model = trainer.model.eval()
    with torch.no_grad():
        full = model.full_sort_predict(rows).view(len(rows), -1)
        found = model.predict(rows)
    torch.testing.assert_close(full[torch.arange(len(rows)), rows["item_id"]], found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_a_score_depends_on_nothing_but_history_and_item(tmp_path, name):
    write_walks(tmp_path / "data", False)
    trainer, _, _, test = built(tmp_path / "data", name)
    rows = next(iter(test))[0]
    model = trainer.model.eval()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = model.predict(rows)
        torch.testing.assert_close(model.predict(rows[order]), together[order], atol=1e-5, rtol=0)
        alone = torch.cat([model.predict(rows[i : i + 1]) for i in range(12)])
    torch.testing.assert_close(alone, together[:12], atol=1e-5, rtol=0)
