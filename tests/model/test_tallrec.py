"""TALLRec: LLMTRSR without a summary, and in nothing else different."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy
import yaml

from recbole_llmtrsr.config.config import Config
from recbole_llmtrsr.config.sources import Command, flags, properties_dir
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.data.loaders.make_loaders import make_loaders
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.sequential_recommender.llmtrsr import LLMTRSR
from recbole_llmtrsr.model.sequential_recommender.tallrec import TALLRec
from recbole_llmtrsr.training.trainer import LLMTRSRTrainer

TINY = {**toy.SMALL, "show_progress": False, "use_gpu": False, "eval_args": {"mode": "uni2"}, "state": "ERROR"}
TINY["candidate_exclusion"] = "target"


@pytest.fixture
def make_config(tmp_path, atomic_folder, monkeypatch):
    """Makes a Config of a model class over the data set 'tiny'; flags may be given."""
    monkeypatch.chdir(tmp_path)

    def make(model_class, given=(), **options):
        return Config(
            model_class,
            "tiny",
            [],
            {**TINY, "data_path": str(atomic_folder), **options},
            command=Command(flags=flags(given)),
        )

    return make


def built(config, model_class):
    """Loaders and model."""
    loaders, *_ = make_loaders(config, LLMTRSRDataset(config))
    torch.manual_seed(0)
    np.random.seed(0)
    return loaders, model_class(config, loaders[0]._dataset)


def test_its_settings_are_those_of_llmtrsr_but_for_the_summary():
    ours, other = (
        yaml.safe_load((properties_dir() / "model" / f"{name}.yaml").read_text()) for name in ("TALLRec", "LLMTRSR")
    )
    summary = {"summary", "summarizer", "block_size"}
    assert {key: ours[key] for key in set(ours) - summary} == {key: other[key] for key in set(other) - summary}
    assert (ours["summary"], summary & set(ours)) == ("none", {"summary"})


def test_its_prompt_in_full(make_config):
    loaders, model = built(make_config(TALLRec, n_recent_items=2, item_text_fields=["title"]), TALLRec)
    dataset = loaders[2]._dataset
    row = dataset.field2id_token["user_id"][dataset.inter_feat["user_id"].numpy()].tolist().index("six")
    history_id = int(dataset.inter_feat["history_id"][row])
    target = int(dataset.inter_feat["item_id"][row])
    ids = [*model._prefix(history_id), *model.prompts.candidate(target)]
    assert model.backbone.tokenizer.decode(ids) == (
        "Below are the items a user chose last. Will the user choose the candidate item next? Answer yes or no.\n"
        "\nLast items, oldest first:\ntitle: White lamp\ntitle: Small desk\n"
        "Candidate item:\ntitle: Large desk\nAnswer:"
    )


def test_its_training_and_its_scores_are_those_of_llmtrsr_without_a_summary(make_config):
    scores = []
    for model_class, options in ((TALLRec, {}), (LLMTRSR, {"summary": "none"})):
        config = make_config(model_class, **options)
        (train, _, test), model = built(config, model_class)
        LLMTRSRTrainer(config, model).fit(train, None, saved=False)
        with torch.no_grad():
            scores.append(model.eval().predict(next(iter(test))[0]))
    assert torch.equal(*scores)
    assert scores[0].std() > 0


@pytest.mark.parametrize("summary", ["hierarchical", "recurrent"])
def test_a_summary_is_refused_with_the_remedy(make_config, summary):
    flag = f"--summary={summary}"
    config = make_config(TALLRec, [flag])
    message = rf"summary must be none for TALLRec, .*, got '{summary}': .*\(LLMTRSR\.summary: {summary}\)"
    with pytest.raises(UserError, match=message):
        TALLRec.check_config(config)
    with pytest.raises(UserError, match=message):
        TALLRec(config, None)
    remedied = make_config(TALLRec, [f"--LLMTRSR.summary={summary}"])
    TALLRec.check_config(remedied)
    assert remedied.settings.summary.summary == "none"


@pytest.mark.parametrize("model_class", [TALLRec, LLMTRSR])
def test_training_without_negatives_is_refused_before_any_work(make_config, model_class):
    config = make_config(model_class)
    model_class.check_config(config)
    config.final_config_dict["train_neg_sample_args"] = {"distribution": "none"}
    with pytest.raises(UserError, match=f"train_neg_sample_args: ~ leaves {model_class.__name__} without negatives"):
        model_class.check_config(config)


def test_an_instruction_that_it_would_not_read_is_refused_before_any_work(make_config):
    options = {"prompt_templates": {"instruction": "Next?\n"}}
    LLMTRSR.check_config(make_config(LLMTRSR, **options))
    with pytest.raises(
        UserError, match="prompt_templates replaces instruction, which prompts without a summary do not"
    ):
        TALLRec.check_config(make_config(TALLRec, **options))
