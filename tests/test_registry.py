from __future__ import annotations

import pytest
from recbole.data.dataset import Dataset, DIENDataset, KnowledgeBasedDataset, SequentialDataset
from recbole.model.general_recommender import BPR, Pop
from recbole.model.knowledge_aware_recommender import CKE
from recbole.model.sequential_recommender import DIEN, SASRec
from recbole.trainer import TraditionalTrainer, Trainer

from recbole_llmtrsr import registry
from recbole_llmtrsr.data.dataset import LLMTRSRDataset
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.model.sequential_recommender.llmtrsr import LLMTRSR
from recbole_llmtrsr.training.trainer import LLMTRSRTrainer


def test_our_names_give_our_classes():
    assert registry.get_model("LLMTRSR") is LLMTRSR
    assert registry.get_dataset(LLMTRSR) is LLMTRSRDataset
    assert registry.get_trainer(LLMTRSR) is LLMTRSRTrainer


def test_our_tables_name_the_same_models():
    assert set(registry.MODELS) == set(registry.TRAINERS) >= set(registry.DATASETS)
    assert set(registry.MODELS) - set(registry.DATASETS) == {"LLMSeqSim"}  # it reads the rows of RecBole


def test_other_names_give_recboles_classes():
    assert registry.get_model("SASRec") is SASRec
    assert registry.get_model("BPR") is BPR
    assert registry.get_trainer(SASRec) is Trainer
    assert registry.get_trainer(Pop) is TraditionalTrainer


@pytest.mark.parametrize(
    ("model", "base"), [(SASRec, SequentialDataset), (BPR, Dataset), (Pop, Dataset), (CKE, KnowledgeBasedDataset)]
)
def test_a_models_data_set_is_recboles_with_history_ids(model, base):
    found = registry.get_dataset(model)
    assert issubclass(found, base)
    assert found.__module__ == "recbole_llmtrsr.data.histories"


def test_a_data_set_of_a_models_own_is_kept():
    assert issubclass(registry.get_dataset(DIEN), DIENDataset)


@pytest.mark.parametrize(
    ("name", "near"),
    [("LLMTRS", "LLMTRSR"), ("llmtrsr", "LLMTRSR"), ("sasrec", "SASRec"), ("bpr", "BPR"), ("GRU4Rek", "GRU4Rec")],
)
def test_an_unknown_model_is_told_with_the_nearest(name, near):
    ours = ", ".join(registry.MODELS)
    text = (
        rf"'{name}' is neither one of this package \({ours}\) nor one of RecBole's \d+ models; did you mean '{near}'\?"
    )
    with pytest.raises(UserError, match=text):
        registry.get_model(name)


@pytest.mark.parametrize("name", ["zzz", "../../etc", ""])
def test_a_name_like_no_other_has_no_hint(name):
    with pytest.raises(UserError, match=r"registers your model before the run$"):
        registry.get_model(name)


def test_every_listed_name_is_a_model():
    names = registry.model_names()
    assert {"LLMTRSR", "SASRec", "GRU4Rec", "Pop", "BPR", "LightGCN"} <= set(names)
    for name in ("SASRec", "GRU4Rec", "BERT4Rec", "LightGCN", "ItemKNN"):
        assert registry.get_model(name).__name__ == name
